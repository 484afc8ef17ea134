"""Flags that cannot work together are refused before anything is read, with what works instead."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lemma.cli import main
from lemma.compatibility import RULES, Setup, check_compatibility, check_rollouts, setup_of
from lemma.modules import GRPOModule, OptimizerArgs, SFTModule
from lemma.policy import LoraArgs, PolicyArgs, QuantizationArgs
from lemma.types import InputError

PLAIN = Setup("cpu", "auto", "32-true", 1.0, PolicyArgs(), OptimizerArgs())
HALF = PolicyArgs(dtype="bfloat16")

REFUSED = {
    "float16 weights": (replace(PLAIN, precision="16-true"), "use bf16-true"),
    "float16 on a CPU": (replace(PLAIN, precision="16-mixed"), "needs a GPU; on a CPU use bf16-mixed"),
    "float16 over bfloat16": (
        replace(PLAIN, device="cuda", precision="16-mixed", policy=HALF),
        "or use bf16-mixed, or bf16-true",
    ),
    "unscaling float16 gradients": (
        replace(PLAIN, device="cuda", precision="16-mixed", policy=PolicyArgs(dtype="float16", method="full")),
        "--model.policy.dtype float32",
    ),
    "Gemma in float16": (replace(PLAIN, device="cuda", precision="16-mixed", model_type="gemma3"), "become NaN"),
    "DoRA on int8 on a CPU": (
        replace(PLAIN, policy=PolicyArgs(quantization=QuantizationArgs("int8"), lora=LoraArgs(use_dora=True))),
        "--model.policy.quantization.method nf4 or none",
    ),
    "FSDP1": (replace(PLAIN, strategy="fsdp_cpu_offload"), "use fsdp (configs/hardware/fsdp.yaml)"),
    "FSDP1 as an object": (replace(PLAIN, strategy="FSDPStrategy"), "use fsdp (configs/hardware/fsdp.yaml)"),
    "8-bit states in flat shards": (
        replace(PLAIN, strategy="fsdp", optimizer=OptimizerArgs("adamw_8bit")),
        "use adamw",
    ),
    "DeepSpeed": (replace(PLAIN, strategy="deepspeed_stage_3_offload"), "there are deepspeed_stage_2"),
    "DeepSpeed as an object": (replace(PLAIN, strategy="DeepSpeedStrategy"), "and deepspeed_stage_3"),
    "DoRA in stage 3 of DeepSpeed": (
        replace(PLAIN, strategy="deepspeed_stage_3", policy=PolicyArgs(lora=LoraArgs(use_dora=True))),
        "use --trainer.strategy deepspeed_stage_2 or fsdp2",
    ),
    "a reference in stage 3 of DeepSpeed": (
        replace(PLAIN, strategy="deepspeed_stage_3", loads_reference=True),
        "use --model.reference precomputed, or fsdp2",
    ),
    "DeepSpeed in float64": (replace(PLAIN, strategy="deepspeed_stage_2", precision="64-true"), "or zero2 for 64-true"),
    "DeepSpeed clipping values": (
        replace(PLAIN, strategy="deepspeed_stage_2", clip_algorithm="value"),
        "use norm, or zero2",
    ),
    "Lightning's own sharding": (replace(PLAIN, strategy="ModelParallelStrategy"), "use fsdp2"),
    "8-bit states in shards": (replace(PLAIN, strategy="zero2", optimizer=OptimizerArgs("adamw_8bit")), "use adamw"),
    "a loss scale over shards": (
        replace(PLAIN, device="cuda", strategy="fsdp2", precision="16-mixed"),
        "use bf16-mixed",
    ),
    "fused and clipped under mixed precision": (
        replace(PLAIN, precision="bf16-mixed", optimizer=OptimizerArgs(fused=True)),
        "--trainer.gradient_clip_val 0",
    ),
    "LoRA+ without LoRA": (
        replace(PLAIN, policy=PolicyArgs(method="full"), optimizer=OptimizerArgs(lora_plus_ratio=16.0)),
        "no LoRA",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_combination_that_cannot_work_is_refused_with_what_works(name):
    setup, message = REFUSED[name]
    with pytest.raises(InputError) as error:
        check_compatibility(setup)
    assert message in str(error.value)


def test_every_rule_is_shown_to_refuse_something():
    assert all(any(rule.matches(setup) for setup, _ in REFUSED.values()) for rule in RULES)


@pytest.mark.parametrize(
    "setup",
    [
        PLAIN,
        replace(PLAIN, precision="bf16-mixed", policy=HALF),
        replace(PLAIN, precision="bf16-true", optimizer=OptimizerArgs(fused=True)),
        replace(PLAIN, precision="bf16-mixed", clip=0.0, optimizer=OptimizerArgs(fused=True)),
        replace(PLAIN, device="cuda", precision="16-mixed"),
        replace(PLAIN, device="cuda", precision="16-mixed", policy=PolicyArgs(dtype="float16")),
        replace(PLAIN, optimizer=OptimizerArgs(lora_plus_ratio=16.0)),
        replace(PLAIN, precision="64-true", policy=PolicyArgs(method="full")),
        replace(PLAIN, strategy="fsdp2", precision="bf16-true", loads_reference=True),
        replace(PLAIN, strategy="deepspeed_stage_2", loads_reference=True),
        replace(PLAIN, strategy="fsdp", precision="64-true", clip=0.1, clip_algorithm="value"),
        replace(PLAIN, strategy="ddp", optimizer=OptimizerArgs("paged_adamw_8bit")),
    ],
)
def test_what_works_is_not_refused(setup):
    check_compatibility(setup)


def test_all_broken_rules_are_named_at_once():
    both = replace(PLAIN, precision="16-mixed", optimizer=OptimizerArgs(fused=True))
    with pytest.raises(InputError) as error:
        check_compatibility(both)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "meant"), [(None, "32-true"), (32, "32-true"), ("bf16", "bf16-mixed"), ("bf16-true", "bf16-true")]
)
def test_lightnings_short_names_of_precisions_are_understood(given, meant):
    assert setup_of({"precision": given}, PolicyArgs(), OptimizerArgs()).precision == meant


def test_the_command_line_refuses_before_it_reads(monkeypatch, tmp_path):
    config = Path(__file__).parents[1] / "configs/quickstart/sft.yaml"
    flags = ["--trainer.precision", "16-mixed", "--trainer.default_root_dir", str(tmp_path), "--data.corpora", "[]"]
    monkeypatch.setattr(sys, "argv", ["lemma", "fit", "--config", str(config), *flags])
    with pytest.raises(SystemExit, match=r"lemma: error: trainer.precision: 16-mixed needs a GPU"):
        main()


@pytest.mark.parametrize(
    ("trainer", "sizes", "says"),
    [
        ({"devices": "auto"}, (32, 7, 32), r"data.batch_size: .*divisor of model.group_size = 7, but got 32"),
        ({}, (5, 8, 32), r"model.problems_per_rollout x model.group_size: expected 5 x 8 = 40 to be a multiple"),
        ({"devices": 3}, (4, 8, 8), r"model.problems_per_rollout: expected a multiple of the 3 ranks"),
        ({"devices": 2, "accumulate_grad_batches": 2}, (4, 8, 16), r"16 x 2 x 2 = 64"),
        ({"devices": "auto", "accumulate_grad_batches": 2}, (4, 8, 16), None),
    ],
)
def test_rollouts_that_cannot_be_cut_are_refused_before_anything_is_read(trainer, sizes, says):
    """They were refused only when data and weights had been loaded."""
    problems, group_size, batch_size = sizes
    module = GRPOModule(group_size=group_size, problems_per_rollout=problems)
    if says is None:
        check_rollouts(trainer, module, batch_size)
    else:
        with pytest.raises(InputError, match=says):
            check_rollouts(trainer, module, batch_size)
    check_rollouts(trainer, SFTModule(), batch_size)


def test_the_architecture_is_asked_for_where_a_rule_needs_it(base_folder):
    setup = setup_of({"precision": "16-mixed"}, PolicyArgs(str(base_folder("gemma2"))), OptimizerArgs())
    assert setup.model_type == "gemma2"
