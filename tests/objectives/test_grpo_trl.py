"""The policy losses and advantages against TRL's GRPOTrainer: its own rollout scored, and its own loss on it.

Intended deviations of ours from TRL 1.16:

============== ==================================================== ===============================================
what           here                                                 there
============== ==================================================== ===============================================
averages       over the window, all micro-batches and ranks          grpo, dr_grpo and entropy: the mean of what
                                                                    micro-batches give, so they depend on the cut
left out       a completion without reward, or truncated and         it stays in the counts of grpo and dr_grpo; one
               masked, is in no count                               without reward keeps KL and entropy, too
cispo          weights in [1 - clip_low, 1 + clip_high]             at most ``epsilon_high`` (our 1 + clip_high)
equal rewards  advantages are exactly 0                             what rounding leaves of r - mean(r), over 1e-4
ratios         at most e^20                                         infinite, and NaN with an advantage of 0
gspo           figures count each token of a completion             figures count each completion once
gradient of k  k1 and k2 beside k3                                  k3 alone
several        leave-one-out and the three scales under both        mean and group under ``normalize_then_sum``
rewards        orders
============== ==================================================== ===============================================
"""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lemma.encoding import Batch, Example, padded, shared_prefix
from lemma.objectives import RL_LOSSES, RolloutLogps, Window, advantages, policy_loss
from lemma.objectives.surrogates import sequence_ratio
from lemma.ops import Head, completion_logps_and_entropy
from lemma.policy import Policy, PolicyArgs

pytestmark = pytest.mark.filterwarnings("ignore")

GROUP, MAX_LENGTH = 3, 40
EVERY = torch.ones(9, dtype=torch.bool)
NAN = math.nan
REWARDS = [
    [5.0, 1.0],
    [0.0, -1.0],
    [5.0, -1.0],
    [0.0, 1.0],
    [0.5, NAN],
    [NAN, 1.0],
    [0.0, -1.0],
    [5.0, 0.0],
    [0.0, 1.0],
]


@pytest.fixture(scope="module")
def policies() -> dict[str, Policy]:
    """Return the shipped policy as the reference, the policy that sampled, and what training has made of it since."""
    found = {}
    for seed, (name, size) in enumerate({"reference": 0.0, "old": 0.05, "policy": 0.1}.items()):
        policy = found[name] = Policy(PolicyArgs("tiny", method="full"))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(size * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return found


@pytest.fixture(scope="module")
def trainer(policies, encoder, tmp_path_factory):
    """Return TRL's trainer of a copy of the policy; a test sets what its configuration would."""
    import datasets
    import trl

    config = trl.GRPOConfig(
        str(tmp_path_factory.mktemp("trl")), per_device_train_batch_size=9, num_generations=GROUP, bf16=False,
        gradient_checkpointing=False, use_cpu=True, report_to=[], disable_tqdm=True, max_completion_length=MAX_LENGTH,
        steps_per_generation=1,
    )  # fmt: skip
    model = Policy(PolicyArgs("tiny", method="full")).model
    model.load_state_dict(policies["policy"].model.state_dict())
    text = datasets.Dataset.from_list([{"prompt": "1 + 1 ="}] * 9)
    trainer = trl.GRPOTrainer(
        model, lambda completions, **_: [0.0] * len(completions), config, train_dataset=text,
        processing_class=encoder.tokenizer,
    )  # fmt: skip
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.fixture(scope="module")
def examples(encoder, problems) -> list[Example]:
    """Return three problems with three completions each, the solutions of others among them; one is truncated."""
    own = [encoder.encode(problem) for problem in problems]
    groups = [[own[(i + 2 * j) % len(own)].completions[0] for j in range(GROUP)] for i in range(3)]
    groups[1][2] = groups[1][2][:5]
    length = min(len(e.prompt_ids) for e in own[:3])  # no padding: TRL pads left, where rotations round otherwise
    return [Example(e.problem_id, e.source, e.prompt_ids[-length:], g) for e, g in zip(own, groups, strict=False)]


def score(trainer, monkeypatch, examples: list[Example], rewards: list[list[float]], **settings) -> dict[str, Tensor]:
    """Return TRL's own rollout of the completions, as if it had sampled and graded them."""
    defaults = {
        "multi_objective_aggregation": "sum_then_normalize", "scale_rewards": "group",
        "mask_truncated_completions": False, "beta": 0.0,
    }  # fmt: skip
    names = [f"reward {k}" for k in range(len(rewards[0]))]
    attributes = {"reward_weights": torch.ones(len(names)), **defaults, **settings}
    attributes |= {"reward_funcs": names, "reward_func_names": names}
    for name, value in attributes.items():
        monkeypatch.setattr(trainer, name, value)
    prompts = [example.prompt_ids for example in examples for _ in example.completions]
    completions = [completion for example in examples for completion in example.completions]
    texts = trainer.processing_class.batch_decode(completions)
    rollout = (prompts, completions, None, texts, None, {}, None, None)
    monkeypatch.setattr(trainer, "_generate", lambda _: rollout)
    monkeypatch.setattr(trainer, "_calculate_rewards", lambda *_: torch.tensor(rewards))
    return trainer._generate_and_score_completions([{"prompt": ""} for _ in prompts])


# --- advantages


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.3, 2.0]])
@pytest.mark.parametrize(
    ("combine", "scale"),
    [
        ("sum_then_normalise", "group"),
        ("sum_then_normalise", "batch"),
        ("sum_then_normalise", "none"),
        ("normalise_then_sum", "group"),
    ],
)
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_advantages_equal_trls(trainer, monkeypatch, examples, combine, scale, weights, lost):
    rewards = [[NAN, NAN] if 3 <= i < 3 + lost else row for i, row in enumerate(REWARDS)]  # up to a whole group
    settings = {"multi_objective_aggregation": combine.replace("ise", "ize"), "scale_rewards": scale}
    theirs = score(trainer, monkeypatch, examples, rewards, reward_weights=torch.tensor(weights), **settings)
    groups = torch.arange(3).repeat_interleave(GROUP)
    ours = advantages(
        torch.tensor(rewards), torch.tensor(weights), groups, scale=scale, baseline="mean", combine=combine
    )
    torch.testing.assert_close(ours, theirs["advantages"], atol=1e-5, rtol=1e-5)
    assert ours.abs().max() > 0.5


def test_equal_rewards_have_advantages_of_zero_where_trl_has_what_rounding_leaves(trainer, monkeypatch, examples):
    rewards = [[0.1, 0.0]] * 9
    theirs = score(trainer, monkeypatch, examples, rewards)["advantages"]
    ours = advantages(
        torch.tensor(rewards), torch.ones(2), torch.arange(3).repeat_interleave(GROUP), scale="group", baseline="mean",
        combine="sum_then_normalise",
    )  # fmt: skip
    assert (ours == 0).all()
    assert 0 <= theirs.abs().max() < 1e-3


# --- losses


class Case(NamedTuple):
    """A loss here, and TRL's settings of the same."""

    name: str
    tunables: dict[str, object]
    trl: dict[str, object]


TIGHT = {"clip_low": 0.05, "clip_high": 0.1}
TIGHT_TRL = {"epsilon_low": 0.05, "epsilon_high": 0.1}
NARROW = {"clip_low": 0.01, "clip_high": 0.01}
NARROW_TRL = {"epsilon_low": 0.01, "epsilon_high": 0.01}
KL, KL_TRL = {"kl_coef": 0.3}, {"beta": 0.3}
SEQUENCE = {"importance_sampling_level": "sequence"}
CASES = {
    "grpo": Case("grpo", TIGHT, {"loss_type": "grpo", **TIGHT_TRL}),
    "dr_grpo": Case("dr_grpo", TIGHT, {"loss_type": "dr_grpo", **TIGHT_TRL}),
    "dapo": Case("dapo", TIGHT, {"loss_type": "dapo", **TIGHT_TRL}),
    "dapo's defaults": Case("dapo", {}, {"loss_type": "dapo", "epsilon_low": 0.2, "epsilon_high": 0.28}),
    "bnpo": Case("dapo", TIGHT, {"loss_type": "bnpo", **TIGHT_TRL}),
    "cispo": Case("cispo", {"clip_high": 0.1}, {"loss_type": "cispo", "epsilon_high": 1.1}),
    "cispo's defaults": Case("cispo", {}, {"loss_type": "cispo", "epsilon_high": 5.0}),
    "gspo": Case("gspo", NARROW, {"loss_type": "grpo", **SEQUENCE, **NARROW_TRL}),
    "gspo's defaults": Case(
        "gspo", {}, {"loss_type": "grpo", **SEQUENCE, "epsilon_low": 3e-4, "epsilon_high": 4e-4}
    ),
    "delta": Case("dapo", {**TIGHT, "delta": 1.2}, {"loss_type": "dapo", **TIGHT_TRL, "delta": 1.2}),
    "delta of completions": Case(
        "gspo", {**NARROW, "delta": 1.02}, {"loss_type": "grpo", **SEQUENCE, **NARROW_TRL, "delta": 1.02}
    ),
    "k3": Case("grpo", {**TIGHT, **KL, "kl_correction": False}, {"loss_type": "grpo", **TIGHT_TRL, **KL_TRL}),
    "corrected k3": Case(
        "grpo", {**TIGHT, **KL}, {"loss_type": "grpo", **TIGHT_TRL, **KL_TRL, "use_bias_correction_kl": True}
    ),
    "corrected k3, dapo": Case(
        "dapo", {**TIGHT, **KL}, {"loss_type": "dapo", **TIGHT_TRL, **KL_TRL, "use_bias_correction_kl": True}
    ),
    "corrected k3, dr_grpo, delta": Case(
        "dr_grpo", {**TIGHT, **KL, "delta": 1.2},
        {"loss_type": "dr_grpo", **TIGHT_TRL, **KL_TRL, "use_bias_correction_kl": True, "delta": 1.2},
    ),
    "corrected k3, cispo": Case(
        "cispo", {"clip_high": 0.1, **KL},
        {"loss_type": "cispo", "epsilon_high": 1.1, **KL_TRL, "use_bias_correction_kl": True},
    ),
    "corrected k3, gspo": Case(
        "gspo",
        {**NARROW, **KL},
        {"loss_type": "grpo", **SEQUENCE, **NARROW_TRL, **KL_TRL, "use_bias_correction_kl": True},
    ),
    "entropy": Case("grpo", {**TIGHT, "entropy_coef": 0.05}, {"loss_type": "grpo", **TIGHT_TRL, "entropy_coef": 0.05}),
    "entropy and k3, dapo": Case(
        "dapo", {**TIGHT, **KL, "kl_correction": False, "entropy_coef": 0.05},
        {"loss_type": "dapo", **TIGHT_TRL, **KL_TRL, "entropy_coef": 0.05},
    ),
}  # fmt: skip


CAP = 1.25


def configure(trainer, monkeypatch, settings: dict[str, object]) -> None:
    chosen = {
        "importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0, "delta": None,
        "use_bias_correction_kl": False, "entropy_coef": 0.0, **settings,
    }  # fmt: skip
    for name in ("delta", "use_bias_correction_kl"):
        monkeypatch.setattr(trainer.args, name, chosen.pop(name))
    for name, value in {**chosen, "_entropy_bonus_enabled": chosen["entropy_coef"] != 0}.items():
        monkeypatch.setattr(trainer, name, value)


def logps_and_entropy(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return our log-probabilities and entropies of a padded batch, both with a gradient."""
    model = policy.causal_lm
    hidden = model.model(batch.input_ids, batch.attention_mask, use_cache=False).last_hidden_state
    head = Head(model.get_output_embeddings(), model.config.vocab_size, None)
    return completion_logps_and_entropy(
        hidden, batch.input_ids, batch.completion_index, batch.mask, head=head, entropy_gradient=True
    )


def ours(policies, batch: Batch, advantages: Tensor, *, counted: Tensor, entropy: bool) -> RolloutLogps:
    with torch.no_grad():
        old_logps, ref_logps = policies["old"](batch), policies["reference"](batch)
    if entropy:
        logps, entropies = logps_and_entropy(policies["policy"], batch)
    else:
        logps, entropies = policies["policy"](batch), None
    return RolloutLogps(logps, old_logps, ref_logps, entropies, batch.mask, advantages, counted)


def window_of(rollout: RolloutLogps) -> Window:
    mask = rollout.mask & rollout.counted[:, None]
    return Window(rollout.counted.sum(), mask.sum(), MAX_LENGTH)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """Return the relative difference of two gradients."""
    assert expected.keys() == found.keys()
    norm = sum(float(g.norm() ** 2) for g in expected.values()) ** 0.5
    assert norm > 1e-3
    return sum(float((found[name] - expected[name]).norm() ** 2) for name in expected) ** 0.5 / norm


def their_loss(trainer, rollout: RolloutLogps, theirs: dict[str, Tensor]) -> Tensor:
    """Return TRL's loss of the rollout that it scored, with our log-probabilities of the policies that are fixed."""
    assert theirs["completion_ids"].shape == rollout.logps.shape
    fixed = {"old_per_token_logps": rollout.old_logps, "ref_per_token_logps": rollout.ref_logps}
    return trainer._compute_loss(trainer.model, {**theirs, **fixed})


def batch_of(examples: list[Example], layout: str, pad_id: int) -> Batch:
    if layout == "padded":
        return padded(examples, pad_id=pad_id, window_weight=1.0)
    return shared_prefix(examples, pad_id=pad_id, window_weight=1.0, row_length=512)


def test_the_rollout_is_ragged_and_ratios_are_beyond_every_bound(policies, examples, encoder):
    batch = batch_of(examples, "padded", encoder.pad_id)
    rollout = ours(policies, batch, torch.zeros(9), counted=EVERY, entropy=False)
    assert len({*batch.mask.sum(-1).tolist()}) > 3
    log_ratio = rollout.logps - rollout.old_logps
    ratios = log_ratio.exp()[batch.mask]
    assert ratios.min() < 0.9
    assert ratios.max() > 1.5
    of_completions = sequence_ratio(log_ratio, batch.mask)
    assert of_completions.min() < 0.95
    assert of_completions.max() > 1.1


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_trls_on_its_own_rollout(case, trainer, monkeypatch, policies, examples, encoder):
    name, tunables, settings = CASES[case]
    theirs = score(trainer, monkeypatch, examples, REWARDS)
    configure(trainer, monkeypatch, settings)
    entropy = "entropy_coef" in tunables
    batch = batch_of(examples, "padded", encoder.pad_id)
    rollout = ours(policies, batch, theirs["advantages"], counted=EVERY, entropy=entropy)

    expected = their_loss(trainer, rollout, theirs)
    expected.backward()
    loss, figures = policy_loss(name, rollout, window_of(rollout), **tunables)
    loss.backward()
    assert all(figures[bound] > 0 for bound in ("clip_low", "clip_high") if bound in tunables)
    assert figures["clip_delta"] > 0 if "delta" in tunables else figures.get("clip_delta", 0) == 0
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert difference(gradients(trainer.model), gradients(policies["policy"].model)) < 1e-5


@pytest.mark.parametrize(
    ("mode", "theirs", "name"),
    [("token", "token_truncate", "dapo"), ("sequence", "sequence_truncate", "gspo"),
     ("token_mask", "token_mask", "cispo"), ("sequence_mask", "sequence_mask", "corrected k3")],
)  # fmt: skip
def test_a_loss_corrected_for_the_sampler_equals_trls(
    mode, theirs, name, trainer, monkeypatch, policies, examples, encoder
):
    loss_type, tunables, settings = CASES[name]
    scored = score(trainer, monkeypatch, examples, REWARDS)
    configure(trainer, monkeypatch, settings)
    rollout = ours(
        policies, batch_of(examples, "padded", encoder.pad_id), scored["advantages"], counted=EVERY, entropy=False
    )
    noise = 0.4 * torch.randn(rollout.logps.shape, generator=torch.Generator().manual_seed(1))
    rollout = rollout._replace(sampler_logps=rollout.old_logps + noise * rollout.mask)
    ratio = their_sampler_ratio(theirs, rollout)
    assert ratio.max() == CAP or (ratio == 0).any(), "the bound binds"
    for attribute in ("use_vllm", "vllm_importance_sampling_correction"):
        monkeypatch.setattr(trainer, attribute, True)

    expected = their_loss(trainer, rollout, {**scored, "importance_sampling_ratio": ratio})
    expected.backward()
    correction = {"sampler_correction": mode, "sampler_correction_cap": CAP}
    loss, _ = policy_loss(loss_type, rollout, window_of(rollout), **tunables, **correction)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert difference(gradients(trainer.model), gradients(policies["policy"].model)) < 1e-5


def their_sampler_ratio(mode: str, rollout: RolloutLogps) -> Tensor:
    """Return what TRL's ``_generate_and_score_completions`` puts beside a rollout that vLLM drew."""
    level, _, bound = mode.partition("_")
    log_ratio = (rollout.old_logps - rollout.sampler_logps) * rollout.mask
    ratio = (log_ratio if level == "token" else log_ratio.sum(-1, keepdim=True)).exp()
    return ratio.clamp(max=CAP) if bound == "truncate" else ratio.masked_fill(ratio > CAP, 0.0)


def test_every_loss_is_compared():
    assert {case.name for case in CASES.values()} == RL_LOSSES.keys()


@pytest.mark.parametrize("layout", ["padded", "shared_prefix"])
def test_loss_and_gradient_equal_trls_where_the_policy_is_the_one_that_sampled(
    layout, trainer, monkeypatch, policies, examples, encoder
):
    theirs = score(trainer, monkeypatch, examples, REWARDS)
    configure(trainer, monkeypatch, {"loss_type": "dapo", **TIGHT_TRL})
    batch = batch_of(examples, layout, encoder.pad_id)
    rollout = ours(policies, batch, theirs["advantages"], counted=EVERY, entropy=False)
    rollout = rollout._replace(old_logps=rollout.logps.detach())
    expected = trainer._compute_loss(trainer.model, theirs)
    expected.backward()
    loss, _ = policy_loss("dapo", rollout, window_of(rollout), **TIGHT)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert difference(gradients(trainer.model), gradients(policies["policy"].model)) < 1e-5


@pytest.mark.parametrize("name", RL_LOSSES)
def test_truncated_completions_are_masked_as_in_trl_but_in_no_count(
    name, trainer, monkeypatch, policies, examples, encoder
):
    _, tunables, settings = CASES[name]
    theirs = score(trainer, monkeypatch, examples, REWARDS, mask_truncated_completions=True)
    configure(trainer, monkeypatch, {**settings, **KL_TRL})
    counted = torch.arange(9) != 5
    assert theirs["completion_mask"].any(-1).tolist() == counted.tolist()
    batch = batch_of(examples, "padded", encoder.pad_id)
    rollout = ours(policies, batch, theirs["advantages"], counted=counted, entropy=False)
    more = 1 if name in ("dapo", "cispo") else 9 / 8  # by completions there, by those that count here
    expected = more * their_loss(trainer, rollout, theirs)
    expected.backward()
    loss, _ = policy_loss(name, rollout, window_of(rollout), **tunables, **KL, kl_correction=False)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert difference(gradients(trainer.model), gradients(policies["policy"].model)) < 1e-5


def test_a_completion_without_reward_is_in_no_count_where_trl_counts_its_tokens(
    trainer, monkeypatch, policies, examples, encoder
):
    rewards = [[NAN, NAN] if i == 4 else row for i, row in enumerate(REWARDS)]
    theirs = score(trainer, monkeypatch, examples, rewards)
    configure(trainer, monkeypatch, {"loss_type": "dapo", **TIGHT_TRL})
    batch = batch_of(examples, "padded", encoder.pad_id)
    rollout = ours(policies, batch, theirs["advantages"], counted=torch.arange(9) != 4, entropy=False)
    window = window_of(rollout)
    with torch.no_grad():
        expected = their_loss(trainer, rollout, theirs) * batch.mask.sum() / window.tokens
        loss, _ = policy_loss("dapo", rollout, window, **TIGHT)
    assert batch.mask.sum() > window.tokens
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_figures_are_trls_metrics(trainer, monkeypatch, policies, examples, encoder):
    theirs = score(trainer, monkeypatch, examples, REWARDS)
    configure(trainer, monkeypatch, {"loss_type": "dapo", **TIGHT_TRL, **KL_TRL, "use_bias_correction_kl": True})
    batch = batch_of(examples, "padded", encoder.pad_id)
    rollout = ours(policies, batch, theirs["advantages"], counted=EVERY, entropy=True)
    trainer._metrics["train"].clear()
    with torch.no_grad():
        their_loss(trainer, rollout, theirs)
        _, figures = policy_loss("dapo", rollout, window_of(rollout), **TIGHT, **KL)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    pairs = {"kl": "kl", "entropy": "entropy", "clip_low": "clip_ratio/low_mean", "clip_high": "clip_ratio/high_mean"}
    for own, other in pairs.items():
        assert metrics[other] > 0.01
        assert (figures[own] / figures["tokens"]).item() == pytest.approx(metrics[other], rel=1e-4)
