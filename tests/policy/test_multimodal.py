"""Whether a model that also sees is trained on text alone, and its adapter fits the whole model elsewhere."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig
from transformers import SiglipVisionConfig as VisionConfig

from lemma.encoding import Example, padded
from lemma.generation import SamplingArgs, generate
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs

BATCH = padded(
    [Example("a", "s", [5, 6, 7, 8], [[9, 10, 11]]), Example("b", "s", [12, 3], [[4, 5, 6, 7, 8]])],
    pad_id=0,
    window_weight=8.0,
)


@pytest.fixture(scope="module")
def seeing_folder(tmp_path_factory) -> str:
    """Return the folder of a random Gemma 3 with a vision tower, as the checkpoints of 4B and more have it."""
    text = Gemma3TextConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=640, sliding_window=8, layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    vision = VisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
        vision_use_head=False,
    )  # fmt: skip
    config = Gemma3Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=1,
        image_token_index=637, boi_token_index=638, eoi_token_index=639,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bases") / "seeing"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def train(policy: Policy) -> list[float]:
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(4):
        loss = -policy(BATCH).sum() / 8
        loss.backward()
        assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)  # DDP asks for it
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "fc1"]])
def test_only_the_text_decoder_is_adapted(seeing_folder, targets):
    policy = Policy(PolicyArgs(seeing_folder, lora=LoraArgs(target_modules=targets)))
    assert isinstance(policy.causal_lm, Gemma3ForConditionalGeneration)
    adapted = {name for name, module in policy.causal_lm.named_modules() if hasattr(module, "lora_A")}
    assert len(adapted) == (14 if targets == "all-linear" else 2)
    assert all(name.startswith("model.language_model.layers.") for name in adapted)


def test_full_fine_tuning_leaves_what_text_never_passes_through(seeing_folder):
    policy = Policy(PolicyArgs(seeing_folder, method="full"))
    losses = train(policy)
    assert losses[-1] < losses[0] - 0.05
    names = {name for name, _ in policy.named_parameters()}
    beside = {name for name in names if "vision_tower" in name or "multi_modal_projector" in name}
    assert len(beside) > 10
    assert policy.trainable_names() == names - beside


@pytest.mark.parametrize("method", ["none", "int8", "nf4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_text_trains_and_the_adapter_fits_the_whole_model_in_plain_peft(seeing_folder, tmp_path, method, dtype):
    quantization = QuantizationArgs(method)
    policy = Policy(PolicyArgs(seeing_folder, dtype=dtype, gradient_checkpointing=True, quantization=quantization))
    losses = train(policy)
    assert losses[-1] < losses[0] - 0.05
    policy.save(tmp_path)
    expected = policy(BATCH)
    again = Policy(PolicyArgs(seeing_folder, dtype=dtype, adapter=str(tmp_path), quantization=quantization))
    assert torch.equal(again(BATCH), expected)
    if method == "none" and dtype == "float32":
        base = AutoModelForCausalLM.from_pretrained(seeing_folder)
        logits = PeftModel.from_pretrained(base, tmp_path)(BATCH.input_ids, BATCH.attention_mask).logits
        logps = logits.log_softmax(-1)[1, torch.arange(1, 6), [4, 5, 6, 7, 8]]  # the second row: 2 + 5 tokens
        torch.testing.assert_close(logps, expected[1], atol=1e-5, rtol=0)


def test_it_generates_from_text(seeing_folder, encoder, problems):
    model = Policy(PolicyArgs(seeing_folder)).model
    sampling = SamplingArgs(num_samples=1, max_new_tokens=6)
    together = generate(model, problems[:2], encoder, sampling)
    alone = [generate(model, [problem], encoder, sampling)[0] for problem in problems[:2]]
    assert together == alone
