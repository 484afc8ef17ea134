"""How Lemma is measured against others on the same work.

1. A workload (``sft``, ``dpo``, ``grpo``, ``generate``, ``grade``, ``data``) makes what both sides start from:
   ``problems`` the rows, ``base`` a random model, a tokenizer trained on the rows and an adapter. What those share that
   train is in ``training``, ``lemma_side`` and ``trl_side``.
2. ``harness`` runs both sides in turn, each as a process of its own, a reference that is no dependency of Lemma in an
   environment of its own (``reference``); each notes its time, memory and what it did (``meter``, ``process``).
3. The workload compares what both did (``work``), so that none skips any. ``report`` makes medians, ratios and tables.
4. ``runs`` does this once, or for each value of an option, and writes a JSON file, and a PNG (``figures``).

A further workload is a file like ``sft``, beside it what runs in each side's process, and a line in ``bench.py``.
"""
