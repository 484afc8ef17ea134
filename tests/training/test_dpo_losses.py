"""The gradient of every loss is the window's, however it is cut and laid out."""

from types import SimpleNamespace

import pytest
import torch

from lemma.encoding import Example, Examples, Geometry, PlannedExamples, packed, padded, shared_prefix
from lemma.encoding.windows import plan
from lemma.modules import DPOModule
from lemma.objectives import DPO_LOSSES
from lemma.policy import LoraArgs, Policy, PolicyArgs

LOSSES = {**{name: name for name in DPO_LOSSES}, "sum": {"sigmoid": 1.0, "sft": {"weight": 0.2}, "simpo": 0.5}}
LAYOUTS = {
    "padded": lambda some, weight: padded(some, pad_id=0, window_weight=weight),
    "packed": lambda some, weight: packed(some, pad_id=0, window_weight=weight, row_length=24),
    "shared_prefix": lambda some, weight: shared_prefix(some, pad_id=0, window_weight=weight, row_length=24),
}


def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> list[int]:
        return torch.randint(3, 90, (number,), generator=generator).tolist()

    return Examples.of(
        [
            Example(f"p{i}", source, ids(2 + i % 3), [ids(3 + i % 4), ids(2 + i % 5)], weight, kind=f"k{i % 2}")
            for i, (source, weight) in enumerate([("a", 1.0)] * 4 + [("b", 2.5)] * 3)
        ]
    )


@pytest.fixture(scope="module")
def policy(base_folder) -> Policy:
    """Return a policy that has moved away from its reference, in double precision."""
    policy = Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(r=4))).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return policy


def gradient(policy: Policy, loss_type, geometry: Geometry, layout: str) -> torch.Tensor:
    """Return the gradient of one window as Lightning accumulates and DDP averages it."""
    module = DPOModule(policy=policy.args, loss_type=loss_type)
    module.policy = policy
    module.trainer = SimpleNamespace(accumulate_grad_batches=geometry.accumulate, world_size=geometry.num_ranks)
    policy.zero_grad()
    data = examples()
    for rank in range(geometry.num_ranks):
        planned = Geometry(geometry.batch_size, geometry.accumulate, geometry.num_ranks, rank)
        for micro_batch in plan(torch.arange(len(data)).numpy(), planned):
            batch = PlannedExamples(data, LAYOUTS[layout])[micro_batch]
            loss = module.training_step(batch, 0)
            (loss / geometry.accumulate / geometry.num_ranks).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_every_loss_depends_neither_on_cut_nor_on_layout(policy, name):
    whole = gradient(policy, LOSSES[name], Geometry(7), "padded")
    assert whole.norm() > 1e-4
    for geometry in (Geometry(2, 4), Geometry(1, 4, 2), Geometry(2, 2, 2)):
        for layout in LAYOUTS:
            other = gradient(policy, LOSSES[name], geometry, layout)
            tolerance = 1e-10 if layout == "padded" else 1e-6  # the norms of Llama round to float32 even here
            assert (other - whole).norm() <= tolerance * whole.norm(), (geometry, layout)
