"""What tests of layouts share: random sequences, a policy whose adapter does something, equality with a batch."""

import torch

from lemma.encoding import Batch, Example
from lemma.objectives import sft_loss
from lemma.policy import LoraArgs, Policy, PolicyArgs

FAMILIES = ("llama", "qwen2", "gemma2", "gemma3", "gpt2")


def random_examples(shapes: list[tuple[int, list[int], float]]) -> list[Example]:
    """Return examples of given (prompt tokens, tokens of each completion, weight)."""
    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> list[int]:
        return torch.randint(3, 97, (number,), generator=generator).tolist()

    return [
        Example(str(i), "s", ids(prompt), [ids(n) for n in lengths], weight)
        for i, (prompt, lengths, weight) in enumerate(shapes)
    ]


def make_policy(folder, **options) -> Policy:
    policy = Policy(PolicyArgs(str(folder), lora=LoraArgs(r=3, alpha=3), **options))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    return policy


def gradient(policy: Policy, batch: Batch) -> torch.Tensor:
    policy.zero_grad()
    sft_loss(policy(batch), batch.mask, batch.weights, window_weight=batch.window_weight).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])


def assert_same(policy: Policy, reference: Batch, others: list[Batch]) -> None:
    """Compare log-probabilities to 1e-5 and gradients to 1e-6."""
    logps, whole = policy(reference), gradient(policy, reference)
    assert logps.std() > 0.01
    for batch in others:
        torch.testing.assert_close(policy(batch), logps, rtol=0, atol=1e-5)
        assert (gradient(policy, batch) - whole).norm() / whole.norm() <= 1e-6
