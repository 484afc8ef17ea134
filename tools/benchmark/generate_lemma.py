"""Lemma's side of ``generate``: python -m benchmark.generate_lemma JOB RUN_FOLDER"""

import torch

from benchmark.generate_side import Ids, Job
from lemma.generation.local import sample_groups
from lemma.policy import Policy, PolicyArgs


def main() -> None:
    """Draw as GRPO does: adapters merged for the call, mixed precision by autocast, all rows at once."""
    job = Job.read()
    policy = Policy(PolicyArgs(base=job.base, adapter=job.adapter)).to(job.device)

    def draw(prompts: list[Ids], seeds: list[int | None]) -> list[list[Ids]]:
        widest = max(map(len, prompts)) + job.new_tokens
        groups = sample_groups(
            policy,
            prompts,
            [seeds] * len(prompts),
            stop_ids=job.stop_ids,
            pad_id=job.pad_id,
            max_new_tokens=job.new_tokens,
            max_batch_tokens=widest * len(prompts) * len(seeds),
            merge=True,
        )
        return [[sample.ids for sample in group] for group in groups]

    def sample(prompts: list[Ids], step: int) -> list[list[Ids]]:
        first = job.seed + step * job.group_size
        with torch.autocast(job.device, torch.bfloat16, enabled=job.precision == "bf16-mixed"):
            return draw(prompts, list(range(first, first + job.group_size)))

    greedy = [group[0] for group in draw(job.prompts[0], [None])]
    job.measure(sample, greedy, ("lemma",))


if __name__ == "__main__":
    main()
