"""The preference losses against TRL: its DPOTrainer on its own collated batch, and the formulas of its other trainers.

Intended deviations of ours from TRL 1.16:

========= ================================================== =====================================================
loss      here                                               there
========= ================================================== =====================================================
sigmoid   label smoothing is cDPO's                          ``label_smoothing`` is ignored by ``sigmoid``
sft       mean over each pair's chosen tokens, then over     mean over all chosen tokens of the micro-batch, so it
          pairs: accumulation and ranks change nothing       depends on how a window is cut
orpo      likelihood of the completion; finite at p = 1      likelihood counts the prompt's tokens; NaN at p = 1
simpo     gamma as in the paper                              the same (its loss takes gamma / beta times beta)
weights   every loss of a sum has tunables of its own        one ``beta`` and one ``label_smoothing`` for all
========= ================================================== =====================================================
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lemma.encoding import Example, padded
from lemma.objectives import DPO_LOSSES, PairLogps, window_mean
from lemma.ops import masked_sum
from lemma.policy import Policy, PolicyArgs

pytestmark = pytest.mark.filterwarnings("ignore")

SHARED = {
    "sigmoid": {"beta": 0.1, "label_smoothing": 0.0},
    "hinge": {"beta": 0.1},
    "ipo": {"beta": 0.5},
    "robust": {"beta": 0.1, "label_smoothing": 0.2},
    "apo_zero": {"beta": 0.1},
    "sigmoid_norm": {"beta": 0.1},
}


@pytest.fixture(scope="module")
def trained() -> Policy:
    """Return the shipped policy some way from where it was, so that log-ratios are of both signs and far from 0."""
    policy = Policy(PolicyArgs("tiny", method="full"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return policy


@pytest.fixture(scope="module")
def reference() -> Policy:
    return Policy(PolicyArgs("tiny", method="full")).requires_grad_(False)


@pytest.fixture(scope="module")
def trainer(trained, encoder, tmp_path_factory):
    """Return TRL's trainer of a copy of the policy; a test sets the losses that its configuration would."""
    import datasets
    import trl

    config = trl.DPOConfig(
        str(tmp_path_factory.mktemp("trl")), max_length=None, gradient_checkpointing=False, bf16=False, use_cpu=True,
        report_to=[], disable_tqdm=True,
    )  # fmt: skip
    model, ref_model = (Policy(PolicyArgs("tiny", method="full")).model for _ in range(2))
    model.load_state_dict(trained.model.state_dict())
    text = datasets.Dataset.from_list([{"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}])  # it must have some
    trainer = trl.DPOTrainer(model, ref_model, config, train_dataset=text, processing_class=encoder.tokenizer)
    trainer.model.train()
    return trainer


@pytest.fixture(scope="module")
def examples(encoder, problems) -> list[Example]:
    """Return pairs whose rejected side answers another problem; lengths differ between sides and between pairs."""
    own = [encoder.encode(problem) for problem in problems]
    sides = [(e, own[(i + 1) % len(own)].completions[0]) for i, e in enumerate(own)]
    return [Example(e.problem_id, e.source, e.prompt_ids, [e.completions[0], other]) for e, other in sides]


def pair_logps(policy: Policy, reference: Policy, examples: list[Example], pad_id: int) -> tuple[PairLogps, Tensor]:
    """Return our log-probabilities of the pairs, and the ids that they are of."""
    batch = padded(examples, pad_id=pad_id, window_weight=1.0)
    logps = masked_sum(policy(batch), batch.mask).view(-1, 2)  # (N,) -> (E, 2)
    with torch.no_grad():
        ref_logps = masked_sum(reference(batch), batch.mask).view(-1, 2)
    lengths = batch.mask.sum(-1).view(-1, 2)
    columns = (column for pair in (logps, ref_logps, lengths) for column in pair.unbind(1))
    return PairLogps(*columns), batch.input_ids


def collate(trainer, examples: list[Example]) -> dict[str, Tensor]:
    """Return TRL's batch of the same ids: all chosen sides, then all rejected ones."""
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    return trainer.data_collator([dict(zip(keys, (e.prompt_ids, *e.completions), strict=True)) for e in examples])


def weighted(pairs: PairLogps, losses: list[tuple[str, dict[str, float], float]]) -> Tensor:
    number = len(pairs.chosen)
    values = sum(weight * DPO_LOSSES[name].function(pairs, **tunables) for name, tunables, weight in losses)
    return window_mean(values, torch.ones(number), torch.tensor(float(number)))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def compare(trainer, ours: Policy, reference: Policy, examples: list[Example], losses, **config) -> tuple[float, float]:
    """Return TRL's loss, after ours was found equal to it, and the relative difference of the gradients."""
    trainer.loss_types, trainer.loss_weights = [name for name, *_ in losses], [weight for *_, weight in losses]
    trainer.beta, trainer.label_smoothing = config.get("beta", 0.1), config.get("label_smoothing", 0.0)
    collated = collate(trainer, examples)
    pairs, input_ids = pair_logps(ours, reference, examples, trainer.processing_class.pad_token_id)
    assert collated["input_ids"].tolist() == torch.cat([input_ids[0::2], input_ids[1::2]]).tolist()

    their_loss = trainer.compute_loss(trainer.model, collated)
    their_loss.backward()
    loss = weighted(pairs, losses)
    loss.backward()
    assert loss.item() == pytest.approx(their_loss.item(), abs=1e-6)

    expected, found = gradients(trainer.model), gradients(ours.model)
    assert expected.keys() == found.keys()
    difference = sum(float((found[name] - expected[name]).norm() ** 2) for name in expected) ** 0.5
    norm = sum(float(g.norm() ** 2) for g in expected.values()) ** 0.5
    assert norm > 1e-3
    return their_loss.item(), difference / norm


def test_the_pairs_are_ragged_and_the_policy_far_from_the_reference(trained, reference, examples, encoder):
    pairs, _ = pair_logps(trained, reference, examples, encoder.pad_id)
    assert len({*pairs.chosen_length.tolist()}) > 2
    assert (pairs.chosen_length != pairs.rejected_length).any()
    margins = (pairs.chosen - pairs.ref_chosen) - (pairs.rejected - pairs.ref_rejected)
    assert margins.min() < 0.5
    assert margins.max() > 5


@pytest.mark.parametrize("name", SHARED)
def test_loss_and_gradient_equal_trls_on_its_own_batch(name, trainer, trained, reference, examples):
    tunables = SHARED[name]
    loss, difference = compare(trainer, trained, reference, examples, [(name, tunables, 1.0)], **tunables)
    assert loss > 0.02
    assert difference < 1e-5


def with_chosen_sides_of_one_length(examples: list[Example]) -> list[Example]:
    length = min(len(e.completions[0]) for e in examples)
    cut = [[e.completions[0][:length], e.completions[1]] for e in examples]
    return [dataclasses.replace(e, completions=sides) for e, sides in zip(examples, cut, strict=True)]


def test_a_weighted_sum_of_losses_equals_trls(trainer, trained, reference, examples):
    tunables = {"beta": 0.1, "label_smoothing": 0.2}
    losses = [("robust", tunables, 0.6), ("apo_zero", {"beta": 0.1}, 0.3), ("sft", {}, 0.1)]
    even = with_chosen_sides_of_one_length(examples)
    loss, difference = compare(trainer, trained, reference, even, losses, **tunables)
    assert loss > 0.02
    assert difference < 1e-5


def test_trls_sigmoid_ignores_its_label_smoothing_and_ours_does_not(trainer, trained, reference, examples):
    clean = [("sigmoid", {"beta": 0.1, "label_smoothing": 0.0}, 1.0)]
    _, difference = compare(trainer, trained, reference, examples, clean, beta=0.1, label_smoothing=0.2)
    assert difference < 1e-5
    pairs, _ = pair_logps(trained, reference, examples, trainer.processing_class.pad_token_id)
    smoothed = [("sigmoid", {"beta": 0.1, "label_smoothing": 0.2}, 1.0)]
    assert abs(weighted(pairs, smoothed) - weighted(pairs, clean)) > 0.001


@pytest.mark.parametrize("number", [1, 5])
def test_sft_equals_trls_where_chosen_sides_are_of_one_length(trainer, trained, reference, examples, number):
    even = with_chosen_sides_of_one_length(examples)[:number]
    loss, difference = compare(trainer, trained, reference, even, [("sft", {}, 1.0)])
    assert loss > 0.02
    assert difference < 1e-5


def test_sft_counts_pairs_alike_where_trls_counts_tokens_alike(trainer, trained, reference, examples):
    pad_id = trainer.processing_class.pad_token_id
    pairs, _ = pair_logps(trained, reference, examples, pad_id)
    ours = DPO_LOSSES["sft"].function(pairs)
    trainer.loss_types, trainer.loss_weights = ["sft"], [1.0]
    theirs = trainer.compute_loss(trainer.model, collate(trainer, examples)).item()
    by_token = (ours * pairs.chosen_length).sum() / pairs.chosen_length.sum()
    assert theirs == pytest.approx(by_token.item(), abs=1e-6)
    assert abs(theirs - ours.mean().item()) > 0.001


# --- losses of TRL's experimental trainers, at the level of tensors


@pytest.fixture
def means() -> tuple[PairLogps, Tensor, Tensor]:
    """Return pairs of unequal lengths, and the mean log-probabilities of their two sides, leaves of a graph."""
    generator = torch.Generator().manual_seed(1)
    chosen, rejected = (-3 * torch.rand(8, generator=generator) - 1e-3 for _ in range(2))
    lengths = [torch.randint(1, 40, (8,), generator=generator) for _ in range(2)]
    chosen.requires_grad_(), rejected.requires_grad_()
    zeros = torch.zeros(8)
    return PairLogps(chosen * lengths[0], rejected * lengths[1], zeros, zeros, *lengths), chosen, rejected


def equal_in_value_and_gradient(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    pairs = zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True)
    for ours, theirs in pairs:
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (2.5, 0.0), (10.0, 3.0)])
def test_simpo_equals_trls_formula(means, beta, gamma):
    cpo = pytest.importorskip("trl.experimental.cpo")
    pairs, chosen, rejected = means
    settings = SimpleNamespace(
        alpha=0.0, beta=beta, simpo_gamma=gamma, label_smoothing=0.0, loss_type="simpo",
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    expected, *_ = cpo.CPOTrainer.cpo_loss(settings, chosen, rejected)
    found = DPO_LOSSES["simpo"].function(pairs, beta=beta, gamma=gamma)
    equal_in_value_and_gradient(found, expected, chosen, rejected)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_orpo_equals_trls_formula_beside_the_completions_likelihood(means, beta):
    orpo = pytest.importorskip("trl.experimental.orpo")
    pairs, chosen, rejected = means
    settings = SimpleNamespace(beta=beta, accelerator=SimpleNamespace(device="cpu"))
    odds, *_ = orpo.ORPOTrainer.odds_ratio_loss(settings, chosen, rejected)
    equal_in_value_and_gradient(DPO_LOSSES["orpo"].function(pairs, beta=beta), -chosen - odds, chosen, rejected)


def test_orpo_is_finite_where_trls_formula_is_not():
    orpo = pytest.importorskip("trl.experimental.orpo")
    settings = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    one, certain = torch.ones(1), torch.zeros(1, requires_grad=True)
    odds, *_ = orpo.ORPOTrainer.odds_ratio_loss(settings, certain, -one)
    assert not torch.autograd.grad(odds.sum(), certain)[0].isfinite().all()
    found = DPO_LOSSES["orpo"].function(PairLogps(certain, -one, 0 * one, 0 * one, one, one), beta=0.1)
    assert found.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.autograd.grad(found.sum(), certain)[0].isfinite().all()
