"""Ready-made policies and recipes at their bases' true shapes, without weights: what is adapted, and how many steps.

The shapes stand here, for no network is at hand; that they are right is checked by the published parameter counts.
"""

import contextlib
import functools
import io
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from peft.tuners.lora import LoraLayer
from transformers import (
    Gemma3Config,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from lemma.cli import main
from lemma.modules import OptimizerArgs
from lemma.plan import cluster_of, memory_parts
from lemma.plan.steps import Steps
from lemma.policy import PolicyArgs
from lemma.policy.architecture import state_beyond_attention
from lemma.policy.meta import PolicySizes, meta_model, policy_sizes
from lemma.rollouts import RolloutSize

ROOT = Path(__file__).parents[1]
POLICIES = {path.stem: path for path in sorted(ROOT.glob("configs/policy/*.yaml"))}
RECIPES = {path.stem: path for path in sorted(ROOT.glob("configs/recipes/*.yaml"))}
QUANTIZATIONS = {"nf4", "int8"}  # no base of their own

_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
           "image_size": 896, "patch_size": 14, "vision_use_head": False}  # fmt: skip


def qwen2(hidden: int, mlp: int, layers: int, heads: int, groups: int, *, vocab: int = 152064, tied: bool = False):
    return Qwen2Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, tie_word_embeddings=tied,
    )  # fmt: skip


def llama(hidden: int, mlp: int, layers: int, heads: int, *, tied: bool):
    return LlamaConfig(
        vocab_size=128256, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=8, tie_word_embeddings=tied,
    )  # fmt: skip


def gemma3(hidden: int, mlp: int, layers: int, heads: int, groups: int, head_dim: int):
    text = {"vocab_size": 262208, "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": head_dim}  # fmt: skip
    return Gemma3Config(text_config=text, vision_config=_VISION)


SHAPES: dict[str, tuple[PreTrainedConfig, int]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": (qwen2(896, 4864, 24, 14, 2, vocab=151936, tied=True), 494_032_768),
    "Qwen/Qwen2.5-1.5B-Instruct": (qwen2(1536, 8960, 28, 12, 2, vocab=151936, tied=True), 1_543_714_304),
    "Qwen/Qwen2.5-7B-Instruct": (qwen2(3584, 18944, 28, 28, 4), 7_615_616_512),
    "Qwen/Qwen2.5-Math-7B-Instruct": (qwen2(3584, 18944, 28, 28, 4), 7_615_616_512),
    "Qwen/Qwen2.5-Coder-14B-Instruct": (qwen2(5120, 13824, 48, 40, 8), 14_770_033_664),
    "Qwen/Qwen3-32B": (
        Qwen3Config(
            vocab_size=151936, hidden_size=5120, intermediate_size=25600, num_hidden_layers=64, num_attention_heads=64,
            num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
        ),
        32_762_123_264,
    ),
    "meta-llama/Llama-3.2-1B-Instruct": (llama(2048, 8192, 16, 32, tied=True), 1_235_814_400),
    "meta-llama/Llama-3.2-3B-Instruct": (llama(3072, 8192, 28, 24, tied=True), 3_212_749_824),
    "meta-llama/Llama-3.1-8B-Instruct": (llama(4096, 14336, 32, 32, tied=False), 8_030_261_248),
    "google/gemma-3-4b-it": (gemma3(2560, 10240, 34, 8, 4, 256), 4_300_079_472),
    "google/gemma-3-12b-it": (gemma3(3840, 15360, 48, 16, 8, 256), 12_187_325_040),
    "google/gemma-3-27b-it": (gemma3(5376, 21504, 62, 32, 16, 128), 27_432_406_640),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (qwen2(3584, 18944, 28, 28, 4), 7_615_616_512),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": (llama(4096, 14336, 32, 32, tied=False), 8_030_261_248),
    "LiquidAI/LFM2-1.2B": (
        Lfm2Config(
            vocab_size=65536, hidden_size=2048, intermediate_size=12288, num_hidden_layers=16, num_attention_heads=32,
            num_key_value_heads=8, full_attn_idxs=[2, 5, 8, 10, 12, 14], block_auto_adjust_ff_dim=True,
            block_ff_dim_multiplier=1.0, block_multiple_of=256,
        ),
        1_170_340_608,
    ),
    "GAIR/Abel-7B-002": (  # the shape of Mistral 7B
        MistralConfig(
            vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, tie_word_embeddings=False,
        ),
        7_241_732_096,
    ),
    "openai-community/gpt2": (GPT2Config(), 124_439_808),
}  # fmt: skip
"""Hub name → configuration, and the published number of parameters."""


def seven(config: PreTrainedConfig) -> int:
    """Return inputs + outputs of q, k, v, o, gate, up and down, summed over a decoder's layers."""
    text = config.get_text_config()
    h, f, heads = text.hidden_size, text.intermediate_size, text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or h // heads
    q, k = heads * head_dim, text.num_key_value_heads * head_dim
    attention, feed_forward = (h + q) + 2 * (h + k) + (q + h), 3 * (h + f)
    return text.num_hidden_layers * (attention + feed_forward)


def widths(base: str) -> int:
    """Return inputs + outputs of everything that all-linear adapts, by hand."""
    config = SHAPES[base][0]
    if base == "openai-community/gpt2":  # c_attn, c_proj, c_fc, c_proj of 12 layers
        return 12 * ((768 + 2304) + (768 + 768) + (768 + 3072) + (3072 + 768))
    if base == "LiquidAI/LFM2-1.2B":  # 2/3 of 12,288 inside; ten convolutions (in_proj, out_proj), six attentions
        return 16 * 3 * (2048 + 8192) + 10 * ((2048 + 6144) + (2048 + 2048)) + lfm2_attention()
    return seven(config)


def lfm2_attention() -> int:
    return 6 * (2 * (2048 + 2048) + 2 * (2048 + 512))


TRAINED = {
    "qwen2.5-coder-14b-qlora": 64 * 48 * 89_600,  # 10,240 (q) + 2 x 6,144 (k, v) + 10,240 (o) + 3 x 18,944: 275 million
    "lfm2-1.2b-gsm8k-nemotron": 32 * (16 * 3 * (2048 + 8192) + lfm2_attention()),
    "abel-7b-gsm8k-sft": 16 * 32 * 81_920,  # 8,192 (q) + 2 x 5,120 (k, v) + 8,192 (o) + 3 x 18,432
    "abel-7b-coherence-dpo": 16 * 32 * 81_920,
    "llama3.2-3b-limo-sft": 64 * 28 * 54_272,  # 6,144 (q) + 2 x 4,096 (k, v) + 6,144 (o) + 3 x 11,264
    "llama3.2-3b-grpo": 64 * 28 * 54_272,
    "aimo-math-lora": 16 * 48 * 85_248,  # 7,936 (q) + 2 x 5,888 (k, v) + 7,936 (o) + 3 x 19,200
}
"""Recipe → trained parameters, r x (inputs + outputs) summed by hand."""
WINDOWS = {
    "qwen2.5-coder-14b-qlora": (4, 4, 3),
    "lfm2-1.2b-gsm8k-nemotron": (4, 4, 6),
    "abel-7b-gsm8k-sft": (8, 1, 1),
    "abel-7b-coherence-dpo": (4, 8, 1),
    "llama3.2-3b-limo-sft": (4, 4, 1),
    "llama3.2-3b-grpo": (1, 8, 1),
    "aimo-math-lora": (4, 1, 3),
}
"""Recipe → batch size, accumulation, epochs."""


@functools.cache
def composed(path: Path) -> dict:
    """Return what the command on a file's first line composes, through the real command line."""
    command = path.read_text().split("\n")[0].removeprefix("# lemma ").replace("DIR", ".")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["lemma", *shlex.split(command), "--print_config"])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    return yaml.safe_load(printed.getvalue())


def arguments(kind: type, values: dict):
    """Return a dataclass from what a composed file says of it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    return parser.instantiate_classes(parser.parse_object({"value": values})).value


def policy_of(path: Path) -> PolicyArgs:
    """Return the policy; an adapter that another stage makes has the shape that is said beside it."""
    return arguments(PolicyArgs, composed(path)["model"]["init_args"]["policy"] | {"adapter": None})


@functools.cache
def built(path: Path) -> tuple[torch.nn.Module, PolicySizes]:
    policy = policy_of(path)
    model = meta_model(policy, SHAPES[policy.base][0])
    return model, policy_sizes(model, policy)


def adapted_names(model: torch.nn.Module) -> list[str]:
    names = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    assert names
    return names


def test_policies_and_recipes_were_found():
    assert len(POLICIES) == 20
    assert len(RECIPES) == 7
    bases = {policy_of(path).base for name, path in POLICIES.items() if name not in QUANTIZATIONS}
    assert bases == {*SHAPES, "tiny"}


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in QUANTIZATIONS and name != "tiny"])
def test_a_policy_has_the_published_size_and_adapts_every_linear_layer_of_the_decoder_and_nothing_else(name):
    policy = policy_of(POLICIES[name])
    model, sizes = built(POLICIES[name])
    assert sizes.num_frozen == SHAPES[policy.base][1]
    assert sizes.num_trained == policy.lora.r * widths(policy.base)
    assert len(set(sizes.trained)) > 1
    assert {itemsize for _, itemsize in sizes.trained} == {4}, "an adapter is float32"
    assert {itemsize for _, itemsize in sizes.frozen} == {2}, "a base is bfloat16"
    assert not any(part in adapted for adapted in adapted_names(model) for part in ("vision", "lm_head", "embed"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_as_many_parameters_as_counted_by_hand_in_every_layer(name):
    model, sizes = built(RECIPES[name])
    assert sizes.num_trained == TRAINED[name]
    adapted = adapted_names(model)
    for layer in range(sizes.layers):
        assert any(f".{layer}." in name for name in adapted), layer


def test_lfm2_trains_its_counterparts_of_the_seven_modules_and_no_convolution():
    adapted = adapted_names(built(RECIPES["lfm2-1.2b-gsm8k-nemotron"])[0])
    assert len(adapted) == 16 * 3 + 6 * 4
    assert not any(".conv." in name for name in adapted)


@pytest.mark.parametrize("base", SHAPES)
def test_only_the_model_with_convolutions_cannot_be_packed(base):
    assert (state_beyond_attention(SHAPES[base][0]) is not None) == (base == "LiquidAI/LFM2-1.2B")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_batches_and_epochs_are_the_published_ones(name):
    config = composed(RECIPES[name])
    cluster = cluster_of(config["trainer"])
    assert (config["data"]["batch_size"], cluster.accumulate, cluster.max_epochs) == WINDOWS[name]
    assert cluster.ranks == 1


def test_gsm8k_mixed_70_to_30_reaches_the_reported_best_step_within_six_epochs():
    config = composed(RECIPES["lfm2-1.2b-gsm8k-nemotron"])
    assert [corpus["weight"] for corpus in config["data"]["corpora"]] == [0.7, 0.3]
    # 7,473 less the held-out twentieth are 7 of 10 examples of an epoch
    examples = round(7473 * (1 - config["data"]["held_out_share"]) / 0.7)
    steps = Steps(4, 4, 1, examples=examples, max_steps=None, max_epochs=6)
    assert steps.per_epoch == 634
    assert 2200 < steps.total == 3804
    assert config["trainer"]["val_check_interval"] == 100 * 4, "every 100 steps of 4 micro-batches"
    assert config["last_checkpoint"]["every_n_steps"] == 100


def test_the_published_settings_of_each_recipe_stand_in_it():
    def settings(name: str) -> tuple:
        init = composed(RECIPES[name])["model"]["init_args"]
        optimizer, lora = init["optimizer"], init["policy"]["lora"]
        return (
            optimizer["name"], optimizer["lr"], optimizer["schedule"], optimizer["warmup_ratio"],
            optimizer["warmup_steps"], optimizer["weight_decay"], lora["r"], lora["alpha"], lora["dropout"],
            init["policy"]["quantization"]["method"], init["policy"]["gradient_checkpointing"],
        )  # fmt: skip

    assert {name: settings(name) for name in RECIPES} == {
        "qwen2.5-coder-14b-qlora": ("adamw_8bit", 2e-4, "cosine", 0.03, None, 0.0, 64, 128, 0.05, "nf4", True),
        "lfm2-1.2b-gsm8k-nemotron": ("adamw", 1.5e-4, "cosine", 0.05, None, 0.01, 32, 64, 0.05, "nf4", True),
        "abel-7b-gsm8k-sft": ("adamw", 2e-4, "cosine", 0.03, None, 0.0, 16, 32, 0.05, "none", True),
        "abel-7b-coherence-dpo": ("adamw", 1e-5, "cosine", 0.1, None, 0.0, 16, 32, 0.05, "none", True),
        "llama3.2-3b-limo-sft": ("adamw", 2e-4, "cosine", 0.03, None, 0.0, 64, 128, 0.0, "none", True),
        "llama3.2-3b-grpo": ("adamw", 5e-6, "constant", None, 10, 0.0, 64, 128, 0.0, "none", True),
        "aimo-math-lora": ("adamw", 5e-5, "cosine", None, 100, 0.0, 16, 32, 0.05, "none", True),
    }


@pytest.mark.parametrize(
    ("name", "at_most"),
    [("qwen2.5-coder-14b-qlora", 48), ("lfm2-1.2b-gsm8k-nemotron", 8), ("abel-7b-gsm8k-sft", 80),
     ("abel-7b-coherence-dpo", 80), ("llama3.2-3b-limo-sft", 80), ("llama3.2-3b-grpo", 80), ("aimo-math-lora", 80)],
)  # fmt: skip
def test_a_recipe_fits_into_the_gpu_that_it_was_published_for(name, at_most):
    config, policy = composed(RECIPES[name]), policy_of(RECIPES[name])
    optimizer = arguments(OptimizerArgs, config["model"]["init_args"]["optimizer"])
    data, sampling = config["data"], config["model"]["init_args"].get("sampling")
    completions = 2 if "DPO" in config["model"]["class_path"] else 1
    longest = sampling["max_new_tokens"] if sampling else completions * data["max_completion_length"]
    positions = data["batch_size"] * (data["max_prompt_length"] + longest)
    parts = memory_parts(built(RECIPES[name])[1], cluster_of(config["trainer"]), policy, optimizer, positions=positions)
    assert 2 < sum(parts.values()) / 2**30 < at_most, parts


@pytest.mark.parametrize(
    ("before", "after"), [("llama3.2-3b-limo-sft", "llama3.2-3b-grpo"), ("abel-7b-gsm8k-sft", "abel-7b-coherence-dpo")]
)
def test_a_stage_goes_on_from_the_adapter_of_the_recipe_before_it_under_the_same_prompt(before, after):
    before, after = composed(RECIPES[before]), composed(RECIPES[after])
    policies = [config["model"]["init_args"]["policy"] for config in (before, after)]
    assert policies[1]["adapter"] == f"{before['trainer']['default_root_dir']}/adapter"
    for key in ("base", "lora", "quantization", "gradient_checkpointing"):
        assert policies[0][key] == policies[1][key], key
    for key in ("system", "template", "answer_format"):
        assert before["data"]["prompt"][key] == after["data"]["prompt"][key], key


def test_coherence_is_sampled_paired_and_trained_in_commands_that_fit_each_other(monkeypatch, capsys):
    recipe = RECIPES["abel-7b-coherence-dpo"]
    predict, build = (
        shlex.split(line.removeprefix("# ")) for line in recipe.read_text().split("\n")
        if line.startswith(("# lemma predict", "# python"))
    )  # fmt: skip
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [*predict, "--print_config"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    sampled, trained = yaml.safe_load(capsys.readouterr().out), composed(recipe)
    init = sampled["model"]["init_args"]
    assert (init["num_trajectories"], len(init["arms"])) == (8, 8)
    assert init["policy"] == trained["model"]["init_args"]["policy"]
    assert sampled["data"]["prompt"] == trained["data"]["prompt"]
    flags = dict(zip(build[2::2], build[3::2], strict=True))
    assert flags["--trajectories"] == f"{sampled['trainer']['default_root_dir']}/predict/trajectories.jsonl"
    assert [corpus["path"] for corpus in trained["data"]["corpora"]] == [flags["--output"]]
    assert [benchmark["source"] for benchmark in trained["data"]["benchmarks"]] == ["gsm8k-platinum"]


def test_an_optimiser_step_of_reinforcement_sees_8_completions_of_2_problems():
    config = composed(RECIPES["llama3.2-3b-grpo"])
    data, init = config["data"], config["model"]["init_args"]
    size = RolloutSize(
        problems=init["problems_per_rollout"],
        group_size=init["group_size"],
        batch_size=data["batch_size"],
        accumulate=config["trainer"]["accumulate_grad_batches"],
        num_iterations=init["num_iterations"],
    )
    size.check()
    assert (size.problems, size.group_size, size.window_size, size.steps_per_rollout) == (2, 4, 8, 1)
    assert (data["max_prompt_length"], init["sampling"]["max_new_tokens"]) == (512, 1024)
    assert init["rewards"] == [{"name": "correctness"}, {"name": "format", "options": {"style": "tags"}}]


def test_aime_is_measured_as_published(monkeypatch, capsys):
    first = RECIPES["llama3.2-3b-grpo"].read_text().split("\n")[0]
    command = shlex.split(first.removeprefix("# lemma ").replace("gsm8k", "aime").replace("fit", "validate", 1))
    command += ["--config", "configs/protocols/aime.yaml", "--model.policy.adapter", "runs/llama3.2-3b-grpo/adapter"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["lemma", *command, "--print_config"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    config = yaml.safe_load(capsys.readouterr().out)
    sampling = config["model"]["init_args"]["evaluation"]["sampling"]
    published = {"num_samples": 8, "temperature": 0.3, "top_p": 0.95, "max_new_tokens": 32768, "seed": 0}
    assert sampling | published == sampling
    assert [benchmark["source"] for benchmark in config["data"]["benchmarks"]] == ["aime24", "aime25-i", "aime25-ii"]


def test_the_smoke_base_of_a_recipe_fits_its_context(monkeypatch, capsys):
    recipe = RECIPES["aimo-math-lora"]
    first, *rest = recipe.read_text().split("\n")
    flags = shlex.split(rest[1].removeprefix("# ").rstrip("."))
    assert flags[0] == "--data.max_prompt_length"
    command = first.removeprefix("# lemma ").replace("gemma3-12b", "gpt2").replace("DIR", ".")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["lemma", *shlex.split(command), *flags, "--print_config"])
    with pytest.raises(SystemExit):
        main()
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["policy"]["base"] == "openai-community/gpt2"
    assert config["data"]["max_prompt_length"] + config["data"]["max_completion_length"] <= 1024
