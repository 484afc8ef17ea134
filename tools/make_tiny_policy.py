"""Decides how the embedded tiny policy is made: a chat model of a million parameters that half knows arithmetic.

1. Texts: problems of the ``pretrain`` split, put by every template, system prompt and answer format of Lemma. With
   probability ``confusion`` a step takes the wrong operation, with probability ``slip`` its result is off by one or
   ten, and the solution goes on from there: real corpora have mistakes too, and a base that has seen them errs at
   temperature 1 while it knows the rule. Most mistakes are confusions, for one rule mends them all, and training on
   rewards or preferences can find it; a slip has to be mended number by number.
2. Tokenizer: a byte-level BPE over those texts, with Qwen2's pre-tokenizer (single digits; GGUF knows it by name).
3. Policy: a Llama, trained from scratch on the completions, in fp32, one thread.
4. Files: weights rounded to bf16, tokenizer, chat template and a neutral generation config, in Hugging Face's layout.
"""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jsonargparse
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lemma.corpora import arithmetic
from lemma.prompts import ANSWER_FORMATS, PromptArgs, render_completion, render_messages

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
POOL = 32  # batches drawn at once and cut by length, so that little is padded
IGNORED = -100

Example = tuple[list[int], list[int]]  # prompt ids, completion ids with the stop token

TEMPLATES = ("bare", "basic", "step_by_step", "structured", "detailed_reasoning")  # fixed, as the systems are
SYSTEMS = ("none", "tutor", "expert")  # fixed, so that a new system prompt makes no other policy


class Mistakes(NamedTuple):
    """Probabilities of a step's mistakes: the wrong operation, and a result that is off."""

    confusion: float
    slip: float


def make_tiny_policy(
    out: Path = Path("src/lemma/assets/tiny"),
    steps: int = 3000,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    confusion: float = 0.25,
    slip: float = 0.03,
    default_share: float = 0.4,
    vocab_size: int = 640,
    seed: int = 0,
) -> None:
    """Make the embedded tiny policy: pretrain it on noisy arithmetic and save it in Hugging Face format.

    Args:
        out: Folder to write; files of the same names are replaced.
        steps: Optimiser steps.
        batch_size: Sequences a step.
        learning_rate: Peak of AdamW's learning rate; 100 steps of warm-up, then cosine to zero.
        confusion: Probability that a step of a pretraining solution takes the wrong operation, 0 to 1.
        slip: Probability that its result is off by one or by ten, 0 to 1.
        default_share: Share of examples in Lemma's default prompt (basic, none, boxed); the rest is uniform over all.
        vocab_size: Tokens of the BPE, specials included; at least 259.
        seed: Decides texts, order and initial weights: the same seed gives the same files on the same machine.
    """
    shares = {"confusion": confusion, "slip": slip, "default_share": default_share}
    if steps < 1 or batch_size < 1 or vocab_size < 259 or not all(0 <= share <= 1 for share in shares.values()):
        raise ValueError(
            f"Expected `steps` and `batch_size` at least 1, `vocab_size` at least 259 and {', '.join(shares)} within "
            f"0..1, but got {steps}, {batch_size}, {vocab_size}, {shares}."
        )
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    mistakes = Mistakes(confusion, slip)
    tokenizer = train_tokenizer(
        itertools.islice(texts(mistakes, seed=seed, default_share=0), 20_000), vocab_size=vocab_size
    )
    policy = new_policy(tokenizer)
    print(f"{policy.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    examples = encode(texts(mistakes, seed=seed, default_share=default_share), tokenizer)
    batches = batches_by_length(examples, batch_size=batch_size, seed=seed)
    pretrain(policy, itertools.islice(batches, steps), steps=steps, learning_rate=learning_rate)
    save(policy, tokenizer, out)


def texts(mistakes: Mistakes, *, seed: int, default_share: float) -> Iterator[tuple[list[dict[str, str]], str]]:
    """Yield (messages, completion) without end: pretraining problems of all levels alike, with fresh mistakes."""
    rng = random.Random(seed)
    by_level = [arithmetic.skeletons("pretrain", level) for level in arithmetic.LEVELS]
    prompts = [PromptArgs(*names) for names in itertools.product(TEMPLATES, SYSTEMS, ANSWER_FORMATS)]
    take_step = mistaken(rng, mistakes)
    while True:
        skeleton = rng.choice(rng.choice(by_level))
        problem = arithmetic.write("", skeleton, take_step)
        prompt = PromptArgs() if rng.random() < default_share else rng.choice(prompts)
        yield render_messages(problem.problem, prompt), render_completion(problem, prompt)


def mistaken(rng: random.Random, mistakes: Mistakes) -> Callable[[int, str, int], tuple[str, int]]:
    """Return a way to take steps that errs: the wrong operation, or a result that is off by one or by ten."""

    def take_step(left: int, operator: str, right: int) -> tuple[str, int]:
        if rng.random() < mistakes.confusion:
            operator = {"+": "-", "-": "+", "*": "+", "/": "-"}[operator]
        result = arithmetic.calculate(left, operator, right)
        if rng.random() < mistakes.slip:
            result += rng.choice((-1, 1, -10, 10))
        return operator, max(result, 0)

    return take_step


def train_tokenizer(samples: Iterator[tuple[list[dict[str, str]], str]], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE with single digits and a ChatML template, that adds no special tokens of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    turns = ([*messages, {"role": "assistant", "content": completion}] for messages, completion in samples)
    bpe.train_from_iterator(
        (f"{turn['role']}\n{turn['content']}" for turn in itertools.chain.from_iterable(turns)), trainer
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False, model_max_length=2048
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_policy(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama of about a million parameters; every width is a multiple of 32, for Q8_0 and Q4_0."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(
    samples: Iterator[tuple[list[dict[str, str]], str]], tokenizer: PreTrainedTokenizerFast
) -> Iterator[Example]:
    """Yield the ids of prompt and completion, tokenised apart; the completion ends in the stop token."""
    while chunk := list(itertools.islice(samples, 512)):
        prompts = [
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for messages, _ in chunk
        ]
        prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        completion_ids = tokenizer([completion for _, completion in chunk], add_special_tokens=False)["input_ids"]
        for prompt, completion in zip(prompt_ids, completion_ids, strict=True):
            yield prompt, [*completion, tokenizer.eos_token_id]


def batches_by_length(examples: Iterator[Example], *, batch_size: int, seed: int) -> Iterator[list[Example]]:
    """Yield batches of similar length in random order, out of pools of ``POOL`` batches."""
    rng = random.Random(seed)
    while True:
        pool = sorted(itertools.islice(examples, batch_size * POOL), key=lambda example: sum(map(len, example)))
        cuts = list(range(0, len(pool), batch_size))
        rng.shuffle(cuts)
        yield from (pool[cut : cut + batch_size] for cut in cuts)


def pretrain(policy: LlamaForCausalLM, batches: Iterator[list[Example]], *, steps: int, learning_rate: float) -> None:
    """Train all weights on the completion tokens with AdamW, and print the loss in nats a token every 50 steps."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    start, losses = time.monotonic(), []
    policy.train()
    for step, batch in enumerate(batches, start=1):
        loss = completion_loss(policy, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            recent = losses[-50:]
            mean = sum(recent) / len(recent)
            print(f"step {step}/{steps}  loss {mean:.4f}  {time.monotonic() - start:.0f} s", flush=True)


def completion_loss(policy: LlamaForCausalLM, batch: list[Example]) -> Tensor:
    """Return the mean cross-entropy of the completion tokens, in nats. Padding is on the right, so needs no mask."""
    length = max(len(prompt) + len(completion) for prompt, completion in batch)
    ids = torch.full((len(batch), length), policy.config.pad_token_id)  # (B, L)
    labels = torch.full((len(batch), length), IGNORED)  # (B, L)
    for row, (prompt, completion) in enumerate(batch):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) - 1 : end - 1] = torch.tensor(completion)  # position t predicts token t + 1
    hidden = policy.model(input_ids=ids).last_hidden_state  # (B, L, H)
    counted = labels != IGNORED
    return cross_entropy(policy.lm_head(hidden[counted]), labels[counted])


def save(policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the policy in bf16, its tokenizer and a generation config that asks for nothing but the stop token."""
    out.mkdir(parents=True, exist_ok=True)
    policy.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    policy.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {size:,} bytes", flush=True)


if __name__ == "__main__":
    jsonargparse.auto_cli(make_tiny_policy)
