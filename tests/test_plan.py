"""The plan: bytes and steps by hand, and against what a run on the CPU really holds."""

import contextlib
import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from lemma.corpora import CorpusArgs
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs
from lemma.modules import DPOModule, OptimizerArgs, SFTModule
from lemma.modules.optim import build_optimizer
from lemma.plan import Cluster, cluster_of, memory_parts, plan
from lemma.plan.memory import Computation, activation_bytes, head_bytes, int8_bytes, nf4_bytes, optimizer_bytes
from lemma.plan.parts import computation
from lemma.plan.steps import Steps
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs
from lemma.policy.fused_swiglu import fuse_swiglu
from lemma.policy.load import load_model, wrap_fresh
from lemma.policy.meta import PolicySizes, meta_model, policy_sizes

ONE = Cluster("auto", "32-true", ranks=1, accumulate=1, max_steps=None, max_epochs=1)
LLAMA = LlamaConfig(
    hidden_size=128, intermediate_size=344, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
    vocab_size=512,
)  # fmt: skip
GPT2 = GPT2Config(n_embd=128, n_layer=4, n_head=8, vocab_size=512, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0)
SIZES = PolicySizes(
    frozen=[(1000, 2)], quantized=[(64, 128)], trained=[(4096, 4), (100, 4)], linear=[(64, 128)],
    adapted=[(128, 8), (64, 8)], layers=2, norms=5, hidden=10, queries=20, mlp=30, gated=True, vocab=50,
    cached=40, merged=600,
)  # fmt: skip
COMPUTATION = Computation(
    positions=7, compute_size=2, adapter_size=4, copies_inputs=True, dropout=False, full=False, checkpointing=False
)


def test_steps_by_hand():
    steps = Steps(4, 4, 2, examples=1000, max_steps=None, max_epochs=3)
    assert steps.window == 32
    assert steps.per_epoch == 32  # 1,000 = 31 x 32 + 8
    assert steps.total == 96
    assert dataclasses.replace(steps, max_steps=50).total == 50
    assert dataclasses.replace(steps, max_steps=500).total == 96
    assert dataclasses.replace(steps, max_epochs=None).total is None, "without end"
    assert dataclasses.replace(steps, max_epochs=None, max_steps=7).total == 7
    assert dataclasses.replace(steps, examples=None, max_steps=50).total is None, "an epoch may be shorter"


def test_nf4_is_half_a_byte_and_an_eighth_of_a_bit_for_twice_quantised_constants():
    count = 4096 * 4096
    assert nf4_bytes(count, double=False) == count // 2 + count // 64 * 4  # 4.5 bits a weight
    assert nf4_bytes(count, double=True) == count // 2 + count // 64 + count // 64 // 256 * 4
    assert 8 * nf4_bytes(count, double=True) / count == pytest.approx(4.127, abs=1e-3)  # arXiv:2305.14314
    assert nf4_bytes(65, double=False) == 33 + 2 * 4
    assert int8_bytes(3, 5) == 15 + 12


def test_states_of_adamw_by_hand():
    assert optimizer_bytes(4096, 4, name="adamw") == 8 * 4096
    assert optimizer_bytes(4096, 2, name="adamw") == 4 * 4096
    assert optimizer_bytes(4096, 2, name="paged_adamw") == 8 * 4096
    assert optimizer_bytes(4096, 4, name="adamw_8bit") == 2 * (4096 + 16 * 4)
    assert optimizer_bytes(4095, 4, name="paged_adamw_8bit") == 8 * 4095, "too small for 8 bits"


def test_activations_by_hand():
    # a token and layer: 2.5 norms x 4 x 10, attention 5 x 2 x 20, feed-forward 3 x 2 x 30, adapters 4 x (96 + 8)
    layer = 100 + 200 + 180 + 416
    assert activation_bytes(SIZES, COMPUTATION) == 7 * 2 * layer
    dropped = dataclasses.replace(COMPUTATION, dropout=True)
    assert activation_bytes(SIZES, dropped) == 7 * 2 * (layer + 96)
    checkpointed = dataclasses.replace(COMPUTATION, checkpointing=True)
    assert activation_bytes(SIZES, checkpointed) == 7 * (2 * 2 * 10 + layer)
    ungated = dataclasses.replace(SIZES, gated=False)
    assert activation_bytes(ungated, COMPUTATION) == 7 * 2 * (layer - 60)


def test_logits_never_outgrow_their_chunk():
    assert head_bytes(SIZES, COMPUTATION) == 8 * 7 * 50 + 2 * 2 * 7 * 10
    many = dataclasses.replace(COMPUTATION, positions=2**25)
    assert head_bytes(SIZES, many) == 8 * 2**26 + 2 * 2 * 2**25 * 10


@pytest.mark.parametrize(
    ("strategy", "weights", "states", "buckets"),
    [
        ("ddp", 1, 1, True),
        ("zero2", 1, 4, False),
        ("fsdp2", 4, 4, False),
        ("fsdp", 4, 4, False),
        ("ShardedStrategy", 4, 4, False),
        ("deepspeed_stage_2", 1, 4, False),
        ("deepspeed_stage_3", 4, 4, False),
    ],
)
def test_a_strategy_shares_what_it_says(strategy, weights, states, buckets):
    policy, optimizer = PolicyArgs(quantization=QuantizationArgs("nf4")), OptimizerArgs()
    four = dataclasses.replace(ONE, strategy=strategy, ranks=4)
    alone = memory_parts(SIZES, ONE, policy, optimizer, positions=7)
    shared = memory_parts(SIZES, four, policy, optimizer, positions=7)
    for name, share in (("base weights in nf4", 1), ("frozen weights", weights), ("trained weights", weights),
                        ("gradients", states), ("optimiser states", states), ("activations", 1)):  # fmt: skip
        assert shared[name] == -(-alone[name] // share), name
    assert ("gradient buckets of DDP" in shared) == buckets
    assert ("a layer's gathered weights" in shared) == (weights > 1)


def test_bf16_true_halves_every_weight_but_an_adapters():
    bf16 = dataclasses.replace(ONE, precision="bf16-true")
    for method, trained in (("lora", 1), ("full", 2)):
        args = PolicyArgs("tiny", method=method)
        sizes = sizes_of(args)
        full, half = (memory_parts(sizes, cluster, args, OptimizerArgs(), positions=1) for cluster in (ONE, bf16))
        assert half.get("frozen weights", 0) == full.get("frozen weights", 0) / 2
        for name in ("trained weights", "gradients", "optimiser states"):
            assert half[name] == full[name] / trained


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"devices": 2, "num_nodes": 3, "max_epochs": 2}, (6, None, 2)),
        ({"devices": "4", "max_steps": 10, "max_epochs": None}, (4, 10, None)),
        ({"devices": [0, 1, 3], "max_steps": -1, "max_epochs": -1}, (3, None, None)),
        ({"devices": "0,2"}, (2, None, 1000)),
    ],
)
def test_ranks_and_the_end_are_read_from_the_trainers_flags(flags, expected):
    cluster = cluster_of({"precision": "bf16", "accumulate_grad_batches": 4, **flags})
    assert (cluster.ranks, cluster.max_steps, cluster.max_epochs) == expected
    assert (cluster.precision, cluster.accumulate, cluster.strategy) == ("bf16-mixed", 4, "auto")


def sizes_of(args: PolicyArgs) -> PolicySizes:
    return policy_sizes(meta_model(args), args)


@pytest.mark.parametrize("lora", [LoraArgs(r=3, use_dora=True), LoraArgs(r=3, target_modules=["q_proj"])], ids=str)
def test_a_shape_without_weights_trains_what_the_real_model_trains(lora, tmp_path):
    args = PolicyArgs("tiny", lora=lora)
    policy = Policy(args)
    trained = [parameter.numel() for parameter in policy.parameters() if parameter.requires_grad]
    assert [count for count, _ in sizes_of(args).trained] == trained
    policy.save(tmp_path)
    continued = sizes_of(PolicyArgs("tiny", adapter=str(tmp_path)))
    assert [count for count, _ in continued.trained] == trained


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_gradients_and_states_are_those_of_a_real_step(name, method):
    args = PolicyArgs("tiny", dtype="bfloat16", method=method, lora=LoraArgs(r=8))
    model, optimizer_args = load_model(args), OptimizerArgs(name=name)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(model, optimizer_args, num_steps=2)["optimizer"]
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # exp_avg and exp_avg_sq, or state1 and state2 with their absmax1 and absmax2; not counters and the 8-bit code book
    states = sum(
        value.nbytes
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and value.numel() > 1 and not key.startswith("qmap")
    )
    parts = memory_parts(sizes_of(args), ONE, args, optimizer_args, positions=1)
    assert parts.get("frozen weights", 0) == sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    assert parts["trained weights"] == parts["gradients"] == sum(parameter.nbytes for parameter in trained)
    assert parts["optimiser states"] == states


@pytest.mark.parametrize(
    "quantization", [QuantizationArgs("nf4"), QuantizationArgs("nf4", double=False), QuantizationArgs("int8")], ids=str
)
def test_quantised_weights_are_those_that_bitsandbytes_makes(quantization):
    args = PolicyArgs("tiny", quantization=quantization, lora=LoraArgs(r=8))
    model = load_model(args)
    bits, constants, plain = 0, 0, 0
    for parameter in model.parameters():
        kind = type(parameter).__name__
        if kind == "Params4bit":
            state = parameter.quant_state
            bits += parameter.nbytes
            constants += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
        elif kind == "Int8Params":
            bits += parameter.nbytes
        elif not parameter.requires_grad:
            plain += parameter.nbytes
    if quantization.method == "int8":
        constants = 4 * sum(p.shape[0] for p in model.parameters() if type(p).__name__ == "Int8Params")
    assert bits > 0
    parts = memory_parts(sizes_of(args), ONE, args, OptimizerArgs(), positions=1)
    assert parts[f"base weights in {quantization.method}"] == bits + constants
    assert parts["frozen weights"] == plain


def saved_bytes(args: PolicyArgs, config, *, mixed: bool) -> int:
    """Return the bytes of everything that a forward pass of 4 x 128 tokens keeps for its backward, weights left out."""
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, args.dtype))
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    fuse_swiglu(model)
    wrapped = (wrap_fresh(model, args.lora) if args.method == "lora" else model).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in wrapped.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor  # held, so that no other takes its place in memory
        return tensor

    precision = torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext()
    with precision, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mask = torch.ones(4, 128, dtype=torch.bool)
        mask[0, -5:] = False
        getattr(model, model.base_model_prefix)(
            input_ids=torch.zeros(4, 128, dtype=torch.long), attention_mask=mask, use_cache=False
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def estimated(args: PolicyArgs, config, *, mixed: bool) -> int:
    sizes = policy_sizes(meta_model(args, config), args)
    cluster = dataclasses.replace(ONE, precision="bf16-mixed" if mixed else "32-true")
    return activation_bytes(sizes, computation(sizes, cluster, args, positions=512))


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize(
    ("settings", "mixed"),
    [
        ({"dtype": "bfloat16"}, True),
        ({"dtype": "bfloat16"}, False),
        ({"dtype": "float32"}, False),
        ({"dtype": "bfloat16", "lora": LoraArgs(r=16, dropout=0.1)}, True),
        ({"dtype": "bfloat16", "method": "full"}, False),
    ],
    ids=["mixed", "bfloat16", "float32", "dropout", "full"],
)
def test_activations_are_what_autograd_keeps_within_a_factor_of_two(config, settings, mixed):
    args = PolicyArgs("tiny", **{"lora": LoraArgs(r=16), **settings})
    assert 0.5 < estimated(args, config, mixed=mixed) / saved_bytes(args, config, mixed=mixed) < 2
    if settings == {"dtype": "bfloat16"} and config is LLAMA:
        assert estimated(args, config, mixed=mixed) == pytest.approx(saved_bytes(args, config, mixed=mixed), rel=0.05)


def test_checkpointing_keeps_the_inputs_of_the_layers():
    args = PolicyArgs("tiny", dtype="bfloat16", lora=LoraArgs(r=16), gradient_checkpointing=True)
    plain = dataclasses.replace(args, gradient_checkpointing=False)
    inputs = estimated(args, LLAMA, mixed=True) - estimated(plain, LLAMA, mixed=True) / 4  # one layer is computed again
    assert inputs == 512 * 4 * 2 * 128
    last_norm = 512 * 4 * 128
    assert saved_bytes(args, LLAMA, mixed=True) == pytest.approx(inputs + last_norm, rel=0.05)


def data(**changes) -> MathDataModule:
    corpora = [CorpusArgs("arithmetic", max_rows=40)]
    return MathDataModule(
        TokenizerArgs("tiny"), **{"corpora": corpora, "batch_size": 4, "held_out_share": 0.0, **changes}
    )


def test_a_plan_counts_real_tokens_and_steps_without_loading_weights(monkeypatch):
    monkeypatch.setattr("lemma.policy.load.load_base", None)
    cluster = dataclasses.replace(ONE, accumulate=2, max_epochs=3)
    module = data()
    text = plan(cluster, SFTModule(policy=PolicyArgs("tiny", lora=LoraArgs(r=4))), module)
    assert "An optimiser step sees 8 examples: batch_size 4 x accumulate 2 x ranks 1." in text
    lengths = [len(e.prompt_ids) + len(e.completions[0]) for e in module.training.examples]
    assert f"{round(8 * sum(lengths) / 40)} tokens a step on average" in text
    assert "An epoch is 40 examples in 5 steps." in text
    assert "The run: 15 optimiser steps." in text
    trained = 4 * 4 * (4 * (128 + 128) + 3 * (128 + 384))
    assert f"tiny: {trained:,} of " in text
    assert f"micro-batch of {module.arrangement.most_positions} positions" in text
    assert 4 * sum(lengths) / 40 <= module.arrangement.most_positions <= 4 * max(lengths)
    assert "together" in text


def test_a_plan_without_data_gives_upper_bounds_and_says_why():
    missing = data(
        corpora=[CorpusArgs("gsm8k", "no/such/file.jsonl")], max_prompt_length=100, max_completion_length=200
    )
    text = plan(dataclasses.replace(ONE, max_epochs=3, max_steps=50), SFTModule(), missing)
    assert "The data has not been read" in text
    assert "no/such/file.jsonl" in text
    assert "At most 1,200 tokens a step (300 an example)." in text
    assert "The run: 3 epochs, at most 50 optimiser steps." in text


def test_a_plan_of_pairs_counts_pairs_and_bounds_both_completions():
    pairs = data(corpora=[CorpusArgs("preferences", "no/such.jsonl")], max_prompt_length=100, max_completion_length=200)
    text = plan(dataclasses.replace(ONE, max_steps=5), DPOModule(), pairs)
    assert "An optimiser step sees 4 pairs: " in text
    assert "At most 2,000 tokens a step (500 a pair)." in text


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reference_takes_what_the_trained_weights_take_and_nothing_else(method):
    policy = PolicyArgs("tiny", method=method)
    sizes = policy_sizes(meta_model(policy), policy)
    without, beside = (
        memory_parts(sizes, ONE, policy, OptimizerArgs(), positions=8, loads_reference=loads) for loads in (False, True)
    )
    assert beside.pop("reference") == beside["trained weights"]
    assert beside == without
