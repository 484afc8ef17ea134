"""What many tests need: the shipped policy's encoder, a few problems, random models of several families, tokenizers."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "LEMMA_CACHE" not in os.environ:  # read when lemma is imported, here and in the processes that tests start
    os.environ["LEMMA_CACHE"] = tempfile.mkdtemp(prefix="lemma-cache-")
    atexit.register(shutil.rmtree, os.environ["LEMMA_CACHE"], ignore_errors=True)

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from lemma.encoding import ChatEncoder, TokenizerArgs, load_tokenizer
from lemma.prompts import PromptArgs
from lemma.types import Problem

_NARROW = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _config(family: str, vocab_size: int) -> PreTrainedConfig:
    common = {**_NARROW, "vocab_size": vocab_size}
    if family == "llama":
        return LlamaConfig(**common)
    if family == "qwen2":
        common.pop("head_dim")
        return Qwen2Config(**common)
    if family == "gemma2":  # caps low enough to bend the logits of a random model
        return Gemma2Config(
            **common, final_logit_softcapping=0.5, attn_logit_softcapping=0.5, sliding_window=8, query_pre_attn_scalar=8
        )
    if family == "gemma3":
        return Gemma3TextConfig(**common, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    if family == "gpt2":
        return GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=512, vocab_size=vocab_size, resid_pdrop=0, embd_pdrop=0,
            attn_pdrop=0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
    raise ValueError(family)


FAMILIES = ("llama", "qwen2", "gemma2", "gemma3", "gpt2")


@pytest.fixture
def lemma(monkeypatch):
    """Run the command line in this process, from the top of the checkout."""
    from lemma.cli import main

    def run(*args: str) -> None:
        monkeypatch.chdir(Path(__file__).parents[1])
        monkeypatch.setattr(sys, "argv", ["lemma", *args])
        main()

    return run


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PreTrainedModel]:
    """Return a function of (family, vocab_size, scale) that makes a random causal model, the same every time."""

    def make(family: str, *, vocab_size: int = 97, scale: float = 8.0) -> PreTrainedModel:
        torch.manual_seed(0)
        with torch.random.fork_rng():
            model = AutoModelForCausalLM.from_config(_config(family, vocab_size), attn_implementation="eager")
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:  # far from uniform, so that logits differ
                    parameter.data.mul_(scale if "wte" in name or "embed" in name else 2.0)
        return model

    return make


@pytest.fixture(scope="session")
def base_folder(make_model, tmp_path_factory) -> Callable[..., Path]:
    """Return a function of (family, vocab_size) to a folder that holds the random model in Hugging Face format."""
    made: dict[tuple[str, int], Path] = {}

    def folder(family: str, *, vocab_size: int = 97) -> Path:
        if (family, vocab_size) not in made:
            path = tmp_path_factory.mktemp("bases") / f"{family}-{vocab_size}"
            make_model(family, vocab_size=vocab_size).save_pretrained(path)
            made[family, vocab_size] = path
        return made[family, vocab_size]

    return folder


@pytest.fixture(scope="session")
def encoder() -> ChatEncoder:
    """Return the encoder of the shipped tiny policy under the default prompt."""
    return ChatEncoder(load_tokenizer(TokenizerArgs("tiny")), PromptArgs())


@pytest.fixture(scope="session")
def problems() -> list[Problem]:
    """Return problems of different lengths, with solutions and answers."""
    rows = [
        ("Ann has 3 apples and buys 4 more. How many apples does she have?", "3 + 4 = 7.", "7"),
        ("What is 12 - 5?", "12 - 5 = 7.", "7"),
        (
            "A shop sells pens for 2 dollars and books for 9 dollars. Tom buys 3 pens and 2 books. What does he pay?",
            "Pens: 3 * 2 = 6. Books: 2 * 9 = 18. Together: 6 + 18 = 24.",
            "24",
        ),
        ("Compute 8 * 7.", "8 * 7 = 56.", "56"),
        (
            "Ben has 20 coins. He gives away 6, then finds 3. How many does he have now?",
            "20 - 6 = 14. 14 + 3 = 17.",
            "17",
        ),
    ]
    return [Problem(f"p{i}", "toy", *row, level=1 + i % 2) for i, row in enumerate(rows)]


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Return a function that makes a byte-level tokenizer with given special tokens and chat template."""

    def make(
        *, special: list[str], template: str | None, eos: str, bos: str | None = None, pad: str | None = None,
        adds_bos: bool = False,
    ) -> PreTrainedTokenizerFast:  # fmt: skip
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        if adds_bos:
            core.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, core.token_to_id(bos))]
            )
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token=bos, pad_token=pad)
        tokenizer.chat_template = template
        return tokenizer

    return make
