"""The one DataModule that all objectives share: corpora in, planned micro-batches and benchmark problems out.

1. Corpora and benchmarks are read; every row that is skipped, filtered or capped is counted and reported. What was
   read and encoded is kept in ``cache_dir``, under a hash of all that decides it.
2. A problem that is also in a benchmark or held out is dropped from training, and so is what comes twice; all reported.
3. Problems whose hash falls into ``held_out_share`` are kept from training; they and ``held_out`` give the loss.
4. Problems become token ids; what is too long goes by ``truncation``; the census is printed, and one example decoded.
5. The mixture orders each epoch; windows are planned over that order (``encoding.windows``).
6. Sequences are packed into rows where the model allows it (``encoding.arrangement``); the expected padding is printed.
"""

import functools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from lemma.corpora import Cleaning, CleaningArgs, Corpus, CorpusArgs, clean, load_corpus, problem_key, reading_report
from lemma.corpora.mixture import EPOCHS
from lemma.encoding import (
    Arrangement,
    Batch,
    ChatEncoder,
    Examples,
    Geometry,
    HoldOut,
    Limits,
    PlannedExamples,
    PlannedLoader,
    PlannedSampler,
    TokenizerArgs,
    TrainingSet,
    arrange,
    build_training_set,
    load_tokenizer,
)
from lemma.evaluation import benchmark_batches, gradable_benchmarks
from lemma.policy.architecture import attention_break_even, load_config
from lemma.policy.packing import LAYOUTS, choose_layout
from lemma.prompts import PromptArgs, choose_shots
from lemma.types import InputError, Problem

CACHE = os.environ.get("LEMMA_CACHE") or "~/.cache/lemma"
"""Folder of what was read and encoded, where the configuration names no other."""


class MathDataModule(LightningDataModule):
    """Mixes math corpora for training and serves benchmarks for validation.

    Args:
        tokenizer: Linked from the policy on the command line.
        corpora: Training corpora; a config file appends with ``corpora+:``.
        benchmarks: Evaluation corpora; a config file appends with ``benchmarks+:``.
        prompt: Template, system prompt and answer format.
        root: Folder under which relative corpus paths are looked for, too.
        batch_size: Sequences per device and micro-step, under every layout.
        layout: packed (several sequences a row), padded (one a row), or auto: packed where the model allows it.
        row_length: Tokens of a packed row at most; null chooses it from the lengths in the data.
        group_by_length: Under padded, exchange examples across windows, so that similar lengths share one; null does
            so where auto could not pack. It changes which examples share an optimiser step.
        max_prompt_length: Tokens of the longest prompt.
        max_completion_length: Tokens of the longest completion, the stop token included.
        truncation: What happens beyond: error, drop or keep_start.
        held_out: Corpora for the held-out loss, none of whose problems may be in training.
        held_out_share: Share of the training problems, by hash, kept for the held-out loss too; in [0, 1).
        max_held_out: Most of those kept problems that are used.
        fit_problems: Problems per benchmark during fit (validate takes all); null takes all in fit too.
        benchmark_batch_size: Problems per validation step; the engine cuts them by its token budget.
        cleaning: What is left out of training because it is tested on or comes twice.
        epoch: Where corpora have weights, an epoch ends when the first is exhausted (shortest), or when every row of
            every corpus has come (longest: smaller corpora are repeated).
        cache_dir: Folder in which what was read and encoded is kept; null keeps nothing.
        seed: Of mixture and caps; linked from ``seed_everything``.
        num_workers: Loader processes for training batches.
    """

    def __init__(
        self,
        tokenizer: TokenizerArgs,
        corpora: list[CorpusArgs] = [],  # noqa: B006 (never changed)
        benchmarks: list[CorpusArgs] = [],  # noqa: B006
        held_out: list[CorpusArgs] = [],  # noqa: B006
        prompt: PromptArgs = PromptArgs(),  # noqa: B008 (frozen)
        root: str | None = None,
        batch_size: int = 8,
        layout: str = "auto",
        row_length: int | None = None,
        group_by_length: bool | None = None,
        max_prompt_length: int = 512,
        max_completion_length: int = 512,
        truncation: str = "error",
        held_out_share: float = 0.05,
        max_held_out: int = 256,
        fit_problems: int | None = 64,
        benchmark_batch_size: int = 32,
        cleaning: CleaningArgs = CleaningArgs(),  # noqa: B008 (frozen)
        epoch: str = "shortest",
        cache_dir: str | None = CACHE,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        _check(batch_size >= 1, "batch_size", "at least 1", batch_size)
        _check(layout in LAYOUTS, "layout", f"one of {', '.join(LAYOUTS)}", layout)
        _check(row_length is None or layout != "padded", "row_length", "null under layout padded", row_length)
        _check(
            not group_by_length or layout != "packed", "group_by_length", "false under layout packed", group_by_length
        )
        _check(0 <= held_out_share < 1, "held_out_share", "a value in [0, 1)", held_out_share)
        _check(benchmark_batch_size >= 1, "benchmark_batch_size", "at least 1", benchmark_batch_size)
        _check(fit_problems is None or fit_problems >= 1, "fit_problems", "null or at least 1", fit_problems)
        _check(epoch in EPOCHS, "epoch", f"one of {', '.join(EPOCHS)}", epoch)
        unweighted = [corpus.source or corpus.name for corpus in corpora if corpus.weight is None]
        rule = "a weight in every corpus or in none"
        _check(len(unweighted) in (0, len(corpora)), "corpora", rule, f"none in {', '.join(unweighted)}")
        self.tokenizer_args = tokenizer
        self.corpora = corpora
        self.benchmark_args = benchmarks
        self.held_out_args = held_out
        self.prompt = prompt
        self.root = root
        self.batch_size = batch_size
        self.layout = layout
        self.row_length = row_length
        self.group_by_length = group_by_length
        self.limits = Limits(max_prompt_length, max_completion_length, truncation)
        self.hold_out = HoldOut(held_out_share, max_held_out)
        self.fit_problems = fit_problems
        self.benchmark_batch_size = benchmark_batch_size
        self.cleaning_args = cleaning
        self.epoch = epoch
        self.cache = None if cache_dir is None else Path(cache_dir).expanduser()
        self.seed = seed
        self.num_workers = num_workers
        self.training: TrainingSet | None = None
        self.arrangement: Arrangement | None = None
        self.shots: list[Problem] | None = None
        self.cleaning: Cleaning | None = None
        self.loaded: dict[str, list[Corpus]] = {}
        self.benchmarks: dict[str, list[Problem]] = {}
        self.data_hashes: dict[str, str] = {}
        self._prepared = False
        self._failure: InputError | None = None
        self._train_loader: PlannedLoader | None = None
        self._resume_position: dict[str, int] | None = None

    @functools.cached_property
    def encoder(self) -> ChatEncoder:
        """Return the one encoder of this run."""
        return ChatEncoder(load_tokenizer(self.tokenizer_args), self.prompt, self.shots)

    def prepare_data(self) -> None:
        """Read and encode into the cache, on one process of each node; the others find it there."""
        if self.cache is not None:
            try:
                self.setup(self.trainer.state.fn)
            except InputError as error:
                self._failure = error  # every rank fails in `setup`, with the same words

    def setup(self, stage: str) -> None:
        """Read, check and encode everything, once.

        Raises:
            InputError: On bad rows, unknown names, overlaps and empty data; see the class.
        """
        if self._prepared:
            return
        if self._failure is not None:
            raise self._failure
        training, benchmarks, held = (
            [load_corpus(args, root=self.root, seed=seed, cache=self.cache) for args in group]
            for group, seed in ((self.corpora, self.seed), (self.benchmark_args, 0), (self.held_out_args, 0))
        )  # what measures a run is the same whatever its seed
        self.benchmarks = gradable_benchmarks(benchmarks)
        for kind, corpora in (("train", training), ("benchmark", benchmarks), ("held_out", held)):
            self.data_hashes |= {f"{kind}/{i}/{corpus.source}": corpus.sha256 for i, corpus in enumerate(corpora)}
        self.loaded = {"train": training, "benchmark": benchmarks, "held out": held}
        rank_zero_info(reading_report(self.loaded))
        self.shots = self._choose_shots()
        if training:
            self.training = self._build_training_set(training, held)
            self.arrangement, why = self._arrange(self.training)
            if stage == "fit":
                rank_zero_info(f"{self.training.report}\nLayout: {self.arrangement.describe()}{why}.")
        self._prepared = True

    def _choose_shots(self) -> list[Problem]:
        """Return the prompt's worked examples, none of which the run is measured on."""
        measured = [*self.loaded["benchmark"], *self.loaded["held out"]]
        tested = {int(key) for corpus in measured for key in corpus.keys}
        return choose_shots(self.prompt, lambda text: problem_key(text) in tested)

    def _build_training_set(self, training: list[Corpus], held: list[Corpus]) -> TrainingSet:
        tested = [problem for problems in self.benchmarks.values() for problem in problems]
        tested += [problem for corpus in held for problem in corpus.problems]
        self.cleaning = clean(training, tested, self.cleaning_args)
        rank_zero_info(self.cleaning.report())
        return build_training_set(
            training,
            held,
            self.cleaning.dropped,
            encoder=self.encoder,
            limits=self.limits,
            hold_out=self.hold_out,
            seed=self.seed,
            epoch=self.epoch,
            cache=self.cache,
        )

    def _arrange(self, training: TrainingSet) -> tuple[Arrangement, str]:
        args = self.tokenizer_args
        config = load_config(args.base, args.revision, args.trust_remote_code)
        layout, obstacle = choose_layout(self.layout, config)
        arrangement = arrange(
            training,
            self.geometry(),
            layout=layout,
            row_length=self.row_length,
            break_even=attention_break_even(config),
            group_by_length=obstacle is not None if self.group_by_length is None else self.group_by_length,
            seed=self.seed,
        )
        return arrangement, "" if obstacle is None else f". Packed rows would mix sequences: {obstacle}"

    def geometry(self) -> Geometry:
        """Return how windows are cut under the trainer's accumulation and ranks; on one rank where there is none."""
        trainer = self.trainer
        if trainer is None:
            return Geometry(self.batch_size)
        return Geometry(self.batch_size, trainer.accumulate_grad_batches, trainer.world_size, trainer.global_rank)

    def train_dataloader(self) -> PlannedLoader:
        """Return the planned training batches of this rank.

        Raises:
            InputError: If there is no training corpus, or Lightning is to put a sampler of its own in place.
        """
        if self.training is None:
            raise InputError(
                "data.corpora: nothing to train on; add a corpus, e.g. --config configs/corpora/arithmetic.yaml."
            )
        if self.trainer.world_size > 1 and self.trainer._accelerator_connector.use_distributed_sampler:
            raise InputError("trainer.use_distributed_sampler: expected false; MathDataModule shards windows itself.")
        geometry = self.geometry()
        grouping = self.arrangement.grouping(self.training.examples)
        sampler = PlannedSampler(self.training.mixture.epoch_order, geometry, grouping)
        rank_zero_info(
            f"An epoch is {len(self.training.mixture)} examples in windows of {geometry.window_size} (batch_size "
            f"{geometry.batch_size} x accumulate {geometry.accumulate} x ranks {geometry.num_ranks}): "
            f"{-(-len(self.training.mixture) // geometry.window_size)} optimiser steps."
        )
        self._train_loader = self._loader(self.training.examples, sampler)
        if self._resume_position is not None:
            self._train_loader.load_state_dict(self._resume_position)
        return self._train_loader

    def val_dataloader(self) -> list[DataLoader]:
        """Return the held-out batches (if any) and the benchmark problems of this rank (if any)."""
        loaders: list[DataLoader] = []
        if self.training is not None and self.training.held_out:
            geometry = Geometry(self.batch_size, 1, self.trainer.world_size, self.trainer.global_rank)
            order = self.arrangement.held_out_order(self.training.held_out)
            loaders.append(self._loader(self.training.held_out, PlannedSampler(lambda _: order, geometry)))
        if self.benchmarks:
            batches = benchmark_batches(
                self.benchmarks,
                limit=self.fit_problems if self.trainer.state.fn == "fit" else None,
                batch_size=self.benchmark_batch_size,
                rank=self.trainer.global_rank,
                num_ranks=self.trainer.world_size,
            )
            loaders.append(DataLoader(batches, batch_size=None, generator=torch.Generator()))
        return loaders

    def _loader(self, examples: Examples, sampler: PlannedSampler) -> PlannedLoader:
        dataset = PlannedExamples(examples, self.arrangement.layout(self.encoder.pad_id))
        return PlannedLoader(dataset, sampler, num_workers=self.num_workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches; benchmark problems hold no tensors."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training data, and what a resumed run must agree with."""
        return {
            "position": self._train_loader.state_dict(),
            "template_hash": self.encoder.template_hash,
            "prompt": asdict(self.prompt),
            "data": self.data_hashes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with another template or other training data; note the position for the loader to come.

        Lightning would restore a loader's own state too, but not where the schedule asks for the number of steps first.

        Raises:
            InputError: If the template, system prompt, answer format or chat template differ, or, in fit, the data.
        """
        if state_dict["template_hash"] != self.encoder.template_hash:
            raise InputError(
                f"ckpt_path: the checkpoint was trained with the prompt {state_dict['prompt']} (template hash "
                f"{state_dict['template_hash']}), this run has {asdict(self.prompt)} ({self.encoder.template_hash}). "
                f"Its worked examples are {[shot.id for shot in self.encoder.shots]}; they leave out what is tested."
            )
        if self.trainer.state.fn != "fit":
            return
        for name, sha256 in state_dict["data"].items():
            if name.startswith("train/") and self.data_hashes.get(name) != sha256:
                raise InputError(
                    f"ckpt_path: the data of {name} is not what the checkpoint was trained on; resume on the same data."
                )
        self._resume_position = state_dict["position"]


def _check(holds: bool, name: str, rule: str, value: Any) -> None:
    if not holds:
        raise InputError(f"data.{name}: expected {rule}, but got {value!r}.")
