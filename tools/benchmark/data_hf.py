"""The side of datasets in ``data``: python -m benchmark.data_hf JOB RUN_FOLDER"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from benchmark.batches import sequences
from benchmark.data_side import measure, read_job

IGNORED = -100


def main() -> None:
    """Read, map with the chat template, shuffle and pad."""
    job = read_job()
    datasets.disable_progress_bars()

    def start(cache: Path) -> Iterator[dict[str, torch.Tensor]]:
        tokenizer = AutoTokenizer.from_pretrained(job["base"])
        rows = datasets.load_dataset("json", data_files=job["conversations"], split="train", cache_dir=str(cache))
        encode = functools.partial(_encode, tokenizer=tokenizer)
        processes = job["threads"] if job["threads"] > 1 else None
        rows = rows.map(encode, batched=True, remove_columns=rows.column_names, num_proc=processes)
        order = torch.Generator().manual_seed(job["options"]["seed"])
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
        batch_size = job["options"]["batch_size"]
        yield from DataLoader(rows, batch_size, shuffle=True, generator=order, collate_fn=collate)

    def found(batch: dict[str, torch.Tensor]) -> Iterator[Any]:
        return sequences(batch["input_ids"], batch["attention_mask"], batch["labels"] != IGNORED)

    measure(job["num_steps"], start, found, ("torch", "transformers", "datasets"))


def _encode(rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[list[int]]]:
    """Return ids of conversations up to the token that ends the last turn, and labels that leave prompts out."""
    answers = ([{"role": "assistant", "content": text}] for text in rows["completion"])
    whole = [prompt + answer for prompt, answer in zip(rows["prompt"], answers, strict=True)]
    prompts = tokenizer.apply_chat_template(rows["prompt"], add_generation_prompt=True, return_dict=False)
    found: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for prompt, ids in zip(prompts, tokenizer.apply_chat_template(whole, return_dict=False), strict=True):
        ids = ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)]
        found["input_ids"].append(ids)
        found["labels"].append([IGNORED] * len(prompt) + ids[len(prompt) :])
    return found


if __name__ == "__main__":
    main()
