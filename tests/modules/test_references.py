"""Precomputed log-probabilities are the reference's own, and those that are kept are tried before they are believed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from lemma.encoding import Example, Examples, Geometry, PlannedExamples, PlannedLoader, PlannedSampler, padded
from lemma.modules.references import Precomputed, restore_reference, saved_reference
from lemma.ops import masked_sum
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.types import InputError

EXAMPLES = [Example(f"p{i}", "s", [5, 6 + i], [[7, 8, 9 + i], [3 + i, 4]]) for i in range(20)]


@pytest.fixture
def args(base_folder) -> PolicyArgs:
    return PolicyArgs(str(base_folder("llama")), lora=LoraArgs(r=4))


@pytest.fixture
def trainer(tmp_path):
    """Return a function to what ``Precomputed`` asks of a trainer."""

    def batches(examples, some):
        def layout(rows, weight):
            return padded(rows, pad_id=0, window_weight=weight)

        return PlannedLoader(PlannedExamples(examples, layout), PlannedSampler(lambda _: some, Geometry(3)))

    def make(*, template: str = "a", precision: Precision | None = None, checkpoint: str | None = None):
        encoder = SimpleNamespace(template_hash=template)
        data = SimpleNamespace(cache=tmp_path / "cache", encoder=encoder, measuring_loader=batches)
        plugin = precision or Precision()
        return SimpleNamespace(
            datamodule=data, ckpt_path=checkpoint, precision=plugin.precision, precision_plugin=plugin, global_rank=0,
            local_rank=0, strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )  # fmt: skip

    return make


@pytest.fixture
def computed(monkeypatch):
    """Return a list that grows by the number of examples whenever log-probabilities are computed."""
    numbers: list[int] = []
    compute = Precomputed._compute

    def count(self, examples, some):
        numbers.append(len(some))
        return compute(self, examples, some)

    monkeypatch.setattr(Precomputed, "_compute", count)
    return numbers


def moved(policy: Policy) -> Policy:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def test_each_pair_has_its_own_values_in_the_order_of_the_examples(args, trainer):
    values = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    policy = Policy(args)
    for i, example in enumerate(EXAMPLES):
        batch = padded([example], pad_id=0, window_weight=1.0)
        with torch.no_grad():
            np.testing.assert_allclose(values[i], masked_sum(policy(batch), batch.mask).numpy(), rtol=0, atol=1e-5)


def test_of_a_fresh_adapter_it_is_the_base_however_far_the_adapter_has_moved(args, trainer):
    values = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    other = trainer(checkpoint="last.ckpt")
    other.datamodule.cache = other.datamodule.cache / "empty"
    again = Precomputed(moved(Policy(args)), args, other).of(Examples.of(EXAMPLES))
    np.testing.assert_array_equal(values, again)


def test_what_is_kept_is_tried_on_a_few_examples_and_taken(args, trainer, computed):
    first = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    second = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    assert computed == [20, 8]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("what", ["examples", "template", "precision", "base", "loading"])
def test_values_of_something_else_are_not_taken(args, trainer, computed, base_folder, what):
    Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    examples, other, options = EXAMPLES, args, {}
    if what == "examples":
        examples = [*EXAMPLES[:-1], replace(EXAMPLES[-1], completions=[[7, 8], [3, 4]])]
    elif what == "template":
        options = {"template": "b"}
    elif what == "precision":
        options = {"precision": MixedPrecision("bf16-mixed", "cpu")}
    elif what == "base":
        other = replace(args, base=str(base_folder("qwen2")))
    else:
        other = replace(args, attn_implementation="eager")
    Precomputed(Policy(other), other, trainer(**options)).of(Examples.of(examples))
    assert computed == [20, 20]


def test_values_of_another_adapter_are_not_taken(args, trainer, computed, tmp_path):
    policy = moved(Policy(args))
    for number in range(2):
        policy.save(tmp_path / "adapter")
        continued = replace(args, adapter=str(tmp_path / "adapter"))
        Precomputed(Policy(continued), continued, trainer()).of(Examples.of(EXAMPLES))
        moved(policy)
        assert computed == [20] * (number + 1)


@pytest.mark.parametrize("damage", ["other values", "cut off", "no numbers", "too few"])
def test_a_damaged_file_is_noticed_and_made_anew_for_good(args, trainer, computed, tmp_path, damage):
    first = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    (file,) = (tmp_path / "cache").glob("*/logps.npy")
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:200])
    else:
        np.save(file, {"other values": first + 0.1, "no numbers": first * np.nan, "too few": first[:-1]}[damage])
    with pytest.warns(UserWarning, match="not this policy's; made anew"):
        second = Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    np.testing.assert_array_equal(first, second)
    computed.clear()
    Precomputed(Policy(args), args, trainer()).of(Examples.of(EXAMPLES))
    assert computed == [8]


@pytest.mark.parametrize("damage", [False, True])
def test_a_policy_that_has_trained_is_never_taken_for_its_reference(args, trainer, tmp_path, damage):
    full = replace(args, method="full")
    if damage:
        first = Precomputed(Policy(full), full, trainer()).of(Examples.of(EXAMPLES))
        (file,) = (tmp_path / "cache").glob("*/logps.npy")
        np.save(file, first[:-1])
    with pytest.raises(InputError, match=r"data.cache_dir: the reference's .* are not in .*--model.reference live"):
        Precomputed(moved(Policy(full)), full, trainer(checkpoint="last.ckpt")).of(Examples.of(EXAMPLES))


def test_they_are_computed_under_the_precision_of_training(args, trainer):
    plugin = MixedPrecision("bf16-mixed", "cpu")
    values = Precomputed(Policy(args), args, trainer(precision=plugin)).of(Examples.of(EXAMPLES))
    batch, policy = padded(EXAMPLES[:1], pad_id=0, window_weight=1.0), Policy(args)
    with torch.no_grad():
        exact = masked_sum(policy(batch), batch.mask)
        with plugin.forward_context():
            live = masked_sum(policy(batch), batch.mask)
    assert (exact - live).abs().max() > 1e-3
    np.testing.assert_allclose(values[0], live.numpy(), rtol=0, atol=1e-6)


def test_without_a_cache_folder_it_says_so(args, trainer):
    without = trainer()
    without.datamodule.cache = None
    with pytest.raises(InputError, match=r"data.cache_dir: expected a folder for model.reference precomputed"):
        Precomputed(Policy(args), args, without)


@pytest.fixture
def continued(args, tmp_path):
    """Return a function to a policy that continues an adapter, its reference beside it."""
    moved(Policy(args)).save(tmp_path / "adapter")

    def make(reference: bool = True) -> Policy:
        policy = Policy(replace(args, adapter=str(tmp_path / "adapter")))
        if reference:
            policy.add_reference()
        return policy

    return make


def test_a_checkpoint_brings_the_reference_adapter_back(continued):
    policy, checkpoint = continued(), {}
    saved_reference(checkpoint, policy)
    assert checkpoint["reference"]
    other = continued()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if ".reference." in name:
                parameter.zero_()
    restore_reference(checkpoint, other)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, policy.get_parameter(name))
        assert ".reference." not in name or not parameter.requires_grad


def test_a_checkpoint_without_reference_and_a_policy_with_one_do_not_go_together(continued, args):
    for policy, other in ((continued(), continued(reference=False)), (continued(reference=False), continued())):
        checkpoint = {}
        saved_reference(checkpoint, policy)
        with pytest.raises(InputError, match=r"ckpt_path: the checkpoint's reference adapter is not that of"):
            restore_reference(checkpoint, other)
    fresh, checkpoint = Policy(args), {}
    saved_reference(checkpoint, fresh)
    restore_reference(checkpoint, fresh)
    assert checkpoint == {}
