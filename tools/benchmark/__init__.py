"""How Lemma is measured against another trainer on the same work.

1. ``base`` makes a random model, a tokenizer trained on the rows and an adapter; a workload (``sft``, ``dpo``) makes
   the rows. What such workloads share is in ``training``, ``lemma_side`` and ``trl_side``.
2. ``harness`` runs both sides in turn, each as a process of its own, the reference in an environment of its own
   (``reference``); in each, ``meter`` notes time, memory, loss and what the model saw, step by step.
3. ``work`` compares what both saw and learned; ``report`` makes medians, ratios, a table and a JSON file.

A further workload is a file like ``sft``, beside it what runs in each side's process, and a line in ``bench.py``.
"""
