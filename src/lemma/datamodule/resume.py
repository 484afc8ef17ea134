"""Decides whether a checkpoint can go on with the prompt and the data of this run."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lemma.encoding import ChatEncoder
from lemma.types import InputError


def check_same_prompt(state: Mapping[str, Any], encoder: ChatEncoder) -> None:
    """Refuse a checkpoint that was trained with another prompt.

    Args:
        state: ``template_hash`` and ``prompt`` of the run that wrote the checkpoint.
        encoder: This run's.

    Raises:
        InputError: If the template, system prompt, answer format or chat template differ.
    """
    if state["template_hash"] != encoder.template_hash:
        raise InputError(
            f"ckpt_path: the checkpoint was trained with the prompt {state['prompt']} (template hash "
            f"{state['template_hash']}), this run has {asdict(encoder.prompt)} ({encoder.template_hash}). "
            f"Its worked examples are {[shot.id for shot in encoder.shots]}; they leave out what is tested."
        )


def check_same_data(saved: Mapping[str, str], data_hashes: Mapping[str, str]) -> None:
    """Refuse a checkpoint that was trained on other data.

    Args:
        saved: Hash of each corpus of the run that wrote the checkpoint, by ``train/<number>/<source>``.
        data_hashes: The same of this run.

    Raises:
        InputError: Names the first corpus that differs.
    """
    for name, sha256 in saved.items():
        if name.startswith("train/") and data_hashes.get(name) != sha256:
            raise InputError(
                f"ckpt_path: the data of {name} is not what the checkpoint was trained on; resume on the same data."
            )
