"""The real command line on rollouts: what is logged, what the first step is, what no cut changes, what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from lemma.answers import Graded, Grader
from lemma.assets import resolve_base
from lemma.types import Verdict

ONE_STEP = ("--trainer.max_steps", "1")


@pytest.fixture
def adapter(grpo):
    """Return the folder of an adapter that has moved away from its base."""
    return str(grpo("fit", "before", "--trainer.max_steps", "2") / "adapter")


def test_a_run_writes_an_adapter_and_says_what_its_rollouts_are_like(grpo, figures):
    run = grpo("fit", "run", "--data.corpora+", '[{"name": "arithmetic", "split": "pretrain", "max_rows": 8}]')
    weights = load_file(run / "adapter" / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 1e-3 for name, tensor in weights.items() if "lora_B" in name)
    steps = figures(run)
    assert [step["step"] for step in steps] == list(range(1, 13)), "24 problems, 4 a rollout, 2 steps a rollout"
    for step in steps:
        assert 0 <= step["rollout/correct"] <= 1
        assert 0 <= step["rollout/signal"] <= 1
        assert step["rollout/stopped"] + step["rollout/truncated"] == pytest.approx(1)
        assert step["rollout/rewards/correctness"] == pytest.approx(5 * step["rollout/correct"])
        expected = step["rollout/rewards/correctness"] + 0.5 * step["rollout/rewards/length"]
        assert step["rollout/reward"] == pytest.approx(expected)
        assert 0 < step["rollout/completion_length"] <= 40
        assert step["rollout/problems_drawn"] == 4
        assert step["rollout/failures/length"] == 0
        assert step["rollout/seconds/generate"] > 0
        assert step["rollout/seconds/grade"] > 0
        assert step["rollout/tokens_per_second"] > 0
        assert step["rollout/advantages_std"] > 0
        assert step["train/entropy"] > 0
        assert {"train/clip_low", "train/clip_high", "train/old_kl", "train/grad_norm"} <= step.keys()
        assert "train/kl" not in step
    assert 0 < max(step["rollout/signal"] for step in steps) < 1.01
    assert any(name.startswith("data/share/") for name in steps[-1])


@pytest.mark.parametrize("start", ["fresh", "continued", "full", "temperature"])
def test_a_policy_that_has_not_moved_has_ratio_1_and_no_kl(grpo, figures, request, start):
    flags = {
        "fresh": (),
        "continued": ("--model.policy.adapter",),
        "full": ("--model.policy.method", "full"),
        "temperature": ("--model.sampling.temperature", "0.7"),
    }[start]
    if start == "continued":
        flags += (request.getfixturevalue("adapter"),)
    flags += ("--model.kl_coef", "0.1", "--model.num_iterations", "2", "--trainer.max_steps", "3")
    first, second, third = figures(grpo("fit", "run", *flags))
    assert first["train/kl"] == pytest.approx(0, abs=1e-9)
    assert first["train/old_kl"] == pytest.approx(0, abs=1e-8)
    assert first["train/ratio"] == pytest.approx(1, abs=1e-6)
    assert second["train/kl"] > 1e-6, "the policy has moved by then"
    assert third["train/old_kl"] > 1e-6
    # the rollout is scored before it is trained on
    assert first["train/sampler_difference"] < 1e-4


def test_with_one_step_a_rollout_the_sampler_agrees_with_the_trainer_too(grpo, figures, adapter):
    flags = ("--data.batch_size", "16", "--model.policy.adapter", adapter)
    first, *_ = figures(grpo("fit", "run", *flags, "--model.sampling.temperature", "1.3", "--trainer.max_steps", "2"))
    assert 0 < first["train/sampler_difference"] < 1e-4
    assert first["train/ratio"] == 1


def test_groups_of_equal_rewards_give_no_gradient(grpo, tmp_path):
    equal = '[{"name": "correctness", "options": {"correct": 0.3, "wrong": 0.3, "timeout": 0.3}}]'
    probes = (("SaveGradients", {"folder": str(tmp_path / "run")}),)
    run = grpo("fit", "run", "--model.rewards", equal, *ONE_STEP, probes=probes)
    assert torch.load(run / "gradient-0.pt", weights_only=True).abs().max() == 0


CUTS = {"whole": ("16", "1", 1), "accumulated": ("8", "2", 1), "parts of groups": ("2", "8", 1), "ranks": ("4", "2", 2)}
LOSSES = {
    "dapo": ("--model.mask_truncated", "true", "--model.sampling.max_new_tokens", "150"),
    "grpo": ("--model.entropy_coef", "0.01", "--model.sampling.temperature", "1.2"),
    "dr_grpo": ("--model.advantage_scale", "batch", "--model.kl_coef", "0.1"),
    "gspo": ("--model.advantage_baseline", "leave_one_out", "--model.clip_low", "0.5", "--model.clip_high", "0.5"),
    "cispo": ("--model.kl_coef", "0.1", "--model.kl_correction", "false"),
}
# Adam's epsilon keeps updates in proportion to gradients, so that rounding is not taken for a direction
MOVED = ("--trainer.max_steps", "2", "--model.num_iterations", "2")
MOVED += ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "30.0")


@pytest.fixture
def exact_base(tmp_path):
    """Return the folder of a random model that computes in float64 throughout; a Llama's norms do in float32."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("tiny"))
    tokenizer.save_pretrained(tmp_path / "exact")
    names = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**shape, **names)).save_pretrained(tmp_path / "exact")
    return str(tmp_path / "exact")


@pytest.fixture
def gradients(grpo, exact_base, tmp_path, monkeypatch):
    """Return a function to the gradients of a window that is a whole rollout, before and after the policy has moved."""
    ungraded = Graded(Verdict.WRONG, Verdict.WRONG, None, None)  # what is right is not what is rewarded here
    monkeypatch.setattr(Grader, "grade_texts", lambda self, texts, golds: [ungraded] * len(texts))

    def run(name: str, cut: tuple[str, str, int], *flags: str) -> list[torch.Tensor]:
        batch_size, accumulate, ranks = cut
        probes = (("SaveGradients", {"folder": str(tmp_path / name)}),)
        flags = ("--data.batch_size", batch_size, "--trainer.accumulate_grad_batches", accumulate, *flags)
        flags += ("--model.policy.base", exact_base, "--model.rewards", '["reward_probes.by_text"]')
        flags += ("--trainer.precision", "64-true", "--trainer.gradient_clip_val", "0", *MOVED)
        folder = grpo("fit", name, *flags, probes=probes, ranks=ranks)
        return [torch.load(folder / f"gradient-{step}.pt", weights_only=True) for step in range(2)]

    return run


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_does_not_depend_on_how_a_rollout_is_cut(gradients, figures, tmp_path, loss):
    flags = ("--model.loss_type", loss, *LOSSES[loss])
    cuts = CUTS if loss == "grpo" else ("whole", "parts of groups")
    whole, *others = (gradients(name, CUTS[name], *flags) for name in cuts)
    assert min(gradient.norm() for gradient in whole) > 1e-3
    assert figures(tmp_path / "whole")[-1]["train/old_kl"] > 1e-4, "the policy has moved"
    for name, other in zip(list(cuts)[1:], others, strict=True):
        assert_equal_gradients(whole, other, name)


def test_gradient_does_not_depend_on_the_layout(gradients):
    layouts = ("shared_prefix", "packed", "padded")
    whole, *others = (gradients(layout, CUTS["accumulated"], "--data.layout", layout) for layout in layouts)
    for name, other in zip(layouts[1:], others, strict=True):
        assert_equal_gradients(whole, other, name)


def assert_equal_gradients(ones, others, name: str) -> None:
    for one, other in zip(ones, others, strict=True):
        assert (one - other).norm() / one.norm() <= 1e-10, name


def test_two_ranks_draw_log_and_train_as_one(grpo, figures):
    # Adam's epsilon keeps updates in proportion to gradients, so that rounding is not taken for a direction
    flags = ("--model.num_iterations", "2", "--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2")
    flags += ("--trainer.max_steps", "6", "--last_checkpoint.every_n_steps", "100")
    one = grpo("fit", "one", *flags, "--data.batch_size", "8")
    two = grpo("fit", "two", *flags, "--data.batch_size", "4", ranks=2)
    ours, theirs = figures(one), figures(two)
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        names = {n for n in a if n.startswith(("rollout/", "train/")) and "seconds" not in n and "per_second" not in n}
        for name in names - {"train/padding", "train/sampler_difference"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5), (a["step"], name)
    before = load_file(one / "adapter" / "adapter_model.safetensors")
    for name, tensor in load_file(two / "adapter" / "adapter_model.safetensors").items():
        assert torch.allclose(tensor, before[name], rtol=0, atol=1e-6), name


def test_dynamic_sampling_replaces_groups_without_signal(grpo, figures):
    flags = ("--trainer.max_steps", "1", "--data.batch_size", "16")
    (plain,) = figures(grpo("fit", "plain", *flags))
    (dynamic,) = figures(grpo("fit", "dynamic", *flags, "--model.dynamic_sampling", "3"))
    assert plain["rollout/signal"] < 1, "there is something to replace"
    assert dynamic["rollout/signal"] > plain["rollout/signal"]
    assert 4 < dynamic["rollout/problems_drawn"] <= 16


def test_a_reward_that_fails_is_counted_shown_in_every_rollout_and_left_out(grpo, figures, capsys):
    rewards = [{"name": "correctness"}, {"name": "reward_probes.failing", "label": "mine"}]
    flags = ("--data.batch_size", "16", "--trainer.max_steps", "2", "--trainer.enable_progress_bar", "true")
    run = grpo("fit", "run", "--model.rewards", json.dumps(rewards), *flags)
    out, err = capsys.readouterr()
    assert err.count('Reward "mine" failed on 8 of 16 completions: expected a finite number, but got nan.') == 2
    assert "Epoch 0, sampling:" in out
    assert " 2/2 [" in out
    step, _ = figures(run)
    assert step["rollout/failures/mine"] == 8
    assert step["rollout/failures/correctness"] == 0
    assert "rollout/rewards/mine" not in step, "it has no value at all"
    assert step["rollout/reward"] == step["rollout/rewards/correctness"]


def test_a_reward_that_fails_on_every_completion_ends_the_run(grpo, tmp_path):
    """It was trained without, on another objective than was asked for."""
    rewards = ("--model.rewards", '["correctness", "reward_probes.broken"]')
    with pytest.raises(
        SystemExit,
        match=r'"reward_probes.broken" failed on all 16 completions .*ZeroDivisionError: .*reward_probes.py:\d+\)',
    ):
        grpo("fit", "run", *rewards)
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data.batch_size", "6"), r"data\.batch_size: .*multiple or a divisor of model\.group_size = 4, but got 6"),
        (("--trainer.accumulate_grad_batches", "3"), r"model\.problems_per_rollout x model\.group_size: "),
        (("--model.sampling.top_p", "0.9"), r"model\.sampling\.top_p: expected 1, but got 0\.9"),
        (("--model.group_size", "1"), r"model\.group_size: expected at least 2, but got 1"),
        (("--model.loss_type", "ppo"), r"model\.loss_type: expected one of grpo, .*but got 'ppo'"),
        (("--model.clip_low", "2"), r"model\.clip_low: .*`clip_low` of the loss dapo to be in \(0, 1\]"),
        (("--model.loss_type", "cispo", "--model.delta", "9"), r"model\.delta: .*cispo.*`delta`"),
        (("--model.kl_coef", "-1"), r"model\.kl_coef: expected a finite number of at least 0"),
        (
            ("--model.kl_coef", "0.1", "--model.kl_estimator", "k1", "--model.kl_correction", "false"),
            r"model\.kl_estimator: k1",
        ),
        (("--model.rewards", "[]"), r"rewards: expected at least one"),
        (("--model.policy.lora.dropout", "0.1"), r"model\.policy\.lora\.dropout: 0\.1 has no effect under disable_dro"),
        (("--model.problems_per_rollout", "32"), r"model\.problems_per_rollout: expected at most the 16 problems"),
        (("--model.sampling.max_new_tokens", "100000"), r"Lower --model\.sampling\.max_new_tokens"),
    ],
)
def test_what_cannot_work_is_refused_by_key(grpo, flags, message):
    with pytest.raises(SystemExit, match=message):
        grpo("fit", "run", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.beta", "0.1"), "beta"),
        (("--model.rewards", '["correctnes"]'), "rewards.name: expected one of correctness, format, length"),
        (("--model.rewards", '[{"name": "length", "option": 1}]'), "rewards.length: expected keys among name, weight"),
    ],
)
def test_keys_and_rewards_that_do_not_exist_are_refused_by_name(grpo, capsys, flags, message):
    with pytest.raises(SystemExit):
        grpo("fit", "run", *flags)
    assert message in capsys.readouterr().err


def test_preference_pairs_and_problems_without_answers_are_refused(grpo, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}\n')
    with pytest.raises(SystemExit, match="pairs"):
        grpo("fit", "run", "--data.corpora", json.dumps([{"name": "preferences", "path": str(pairs)}]))
    rows = [{"q": f"What is {i} + 1?"} for i in range(4)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    corpus = {"name": "mapped", "source": "mine", "path": str(path)}
    corpus["columns"] = {"problem": "q"}
    with pytest.raises(SystemExit, match=r"mine, problem .*: no answer to grade against"):
        grpo("fit", "run", "--data.corpora", json.dumps([corpus]))
