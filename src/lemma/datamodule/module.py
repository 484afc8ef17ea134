"""Decides the order of things: from corpora to planned micro-batches and benchmark problems.

1. Corpora and benchmarks are read; every row that is skipped, filtered or capped is counted and reported. What was
   read and encoded is kept in ``cache_dir``, under a hash of all that decides it.
2. A problem that is also in a benchmark or held out is dropped from training, and so is what comes twice; all reported.
3. Problems whose hash falls into ``held_out_share`` are kept from training; they and ``held_out`` give the loss.
4. Problems become token ids; what is too long goes by ``truncation``; the census is printed, and one example decoded.
5. A run takes problems or preference pairs. How much longer chosen sides are is printed, and limited by ``pairs``.
6. The mixture orders each epoch; windows are planned over that order (``encoding.windows``).
7. Sequences share rows, and pairs their prompt, where the model allows it (``encoding.arrangement``).

For a module that makes rollouts, examples are prompts, and batches are the module's (``datamodule.rollouts``).
"""

import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from lemma.corpora import Cleaning, CleaningArgs, Corpus, CorpusArgs, clean, reading_report
from lemma.datamodule.layout import arrange_for
from lemma.datamodule.measuring import benchmark_loader, measures_held_out
from lemma.datamodule.options import check_answer_format, check_corpora, check_options, check_trainable
from lemma.datamodule.resume import check_same_data, check_same_prompt
from lemma.datamodule.rollouts import Prompts, RolloutData, RolloutLoader
from lemma.datamodule.sources import CACHE, data_hashes, load_sources, tested_items, untested_shots
from lemma.encoding import (
    Arrangement,
    Batch,
    ChatEncoder,
    Examples,
    Geometry,
    HoldOut,
    LengthGrouping,
    Limits,
    PairArgs,
    PlannedExamples,
    PlannedLoader,
    PlannedSampler,
    TokenizerArgs,
    TrainingSet,
    build_training_set,
    load_tokenizer,
)
from lemma.evaluation import gradable_benchmarks
from lemma.prompts import PromptArgs
from lemma.rollouts import RolloutLayout
from lemma.types import InputError, Problem


class MathDataModule(RolloutData, LightningDataModule):
    """Mixes math corpora for training and serves benchmarks for validation.

    Args:
        tokenizer: Linked from the policy on the command line.
        corpora: Training corpora; a config file appends with ``corpora+:``.
        benchmarks: Evaluation corpora; a config file appends with ``benchmarks+:``.
        prompt: Template, system prompt and answer format.
        root: Folder under which relative corpus paths are looked for, too.
        batch_size: Sequences, pairs, or completions of rollouts per device and micro-step, under every layout.
        layout: packed (several sequences a row), shared_prefix (the same, each prompt once for all its completions),
            padded (one a row), or auto: shared_prefix for pairs and rollouts, else packed, where the model allows it.
        row_length: Tokens of a row at most; null chooses it from the lengths in the data.
        group_by_length: Under padded, let similar lengths share a window, and so an optimiser step; null does so where
            auto could not pack.
        max_prompt_length: Tokens of the longest prompt.
        max_completion_length: Tokens of the longest completion, the stop token included; no limit to rollouts.
        truncation: What happens beyond: error, drop or keep_start.
        held_out: Corpora for the held-out loss, none of whose problems may be in training.
        held_out_share: Share of the training problems, by hash, kept for the held-out loss too; in [0, 1).
        max_held_out: Most of those kept problems that are used.
        fit_problems: Problems per benchmark during fit (validate takes all); null takes all.
        benchmark_batch_size: Problems per validation step; the engine cuts them by its token budget.
        cleaning: What is left out of training because it is tested on or comes twice.
        pairs: What is left out of preference pairs.
        epoch: With weights an epoch ends when the first corpus is exhausted (shortest) or every row has come (longest).
        cache_dir: Folder in which what was read and encoded is kept; null keeps nothing.
        seed: Of mixture and caps; linked from ``seed_everything``.
        num_workers: Loader processes for training batches.
        attention: The policy's attention kernel, null for the model's own; linked from the policy.
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
        pairs: PairArgs = PairArgs(),  # noqa: B008 (frozen)
        epoch: str = "shortest",
        cache_dir: str | None = CACHE,
        seed: int = 0,
        num_workers: int = 0,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        check_options(
            batch_size=batch_size,
            layout=layout,
            row_length=row_length,
            group_by_length=group_by_length,
            held_out_share=held_out_share,
            benchmark_batch_size=benchmark_batch_size,
            fit_problems=fit_problems,
            epoch=epoch,
        )
        check_corpora(corpora, held_out)
        check_answer_format([*corpora, *held_out], prompt.answer_format)
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
        self.pairs = pairs
        self.epoch = epoch
        self.cache = None if cache_dir is None else Path(cache_dir).expanduser()
        self.seed = seed
        self.num_workers = num_workers
        self.attention = attention
        self.training: TrainingSet | None = None
        self.arrangement: Arrangement | RolloutLayout | None = None
        self.shots: list[Problem] | None = None
        self.cleaning: Cleaning | None = None
        self.loaded: dict[str, list[Corpus]] = {}
        self.benchmarks: dict[str, list[Problem]] = {}
        self.data_hashes: dict[str, str] = {}
        self._prepared = False
        self._failure: InputError | None = None
        self._train_loader: PlannedLoader | RolloutLoader | None = None
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
        self.loaded = load_sources(
            self.corpora, self.benchmark_args, self.held_out_args, root=self.root, seed=self.seed, cache=self.cache
        )
        self.benchmarks = gradable_benchmarks(self.loaded["benchmark"])
        self.data_hashes = data_hashes(self.loaded)
        rank_zero_info(reading_report(self.loaded))
        self.shots = untested_shots(self.prompt, self.loaded)
        if self.loaded["train"]:
            self.training = self._build_training_set()
            self.arrangement = arrange_for(
                self.tokenizer_args,
                self.training,
                self.geometry(),
                layout=self.layout,
                row_length=self.row_length,
                group_by_length=self.group_by_length,
                seed=self.seed,
                attention=self.attention,
                device="cpu" if self.trainer is None else self.trainer.strategy.root_device.type,
                rollouts=self.makes_rollouts,
            )
            if stage == "fit":
                rank_zero_info(f"{self.training.report}\nLayout: {self.arrangement.describe()}.")
        self._prepared = True

    def _build_training_set(self) -> TrainingSet:
        training, held_out = self.loaded["train"], self.loaded["held out"]
        self.cleaning = clean(training, tested_items(self.benchmarks, held_out), self.cleaning_args)
        rank_zero_info(self.cleaning.report())
        options = {"limits": self.limits, "seed": self.seed, "epoch": self.epoch, "cache": self.cache}
        if self.makes_rollouts:
            self.prompts = Prompts.of(training, self.cleaning.dropped, encoder=self.encoder, **options)
            return self.prompts.training
        options |= {"hold_out": self.hold_out, "pairs": self.pairs}
        return build_training_set(training, held_out, self.cleaning.dropped, encoder=self.encoder, **options)

    def geometry(self) -> Geometry:
        """Return how windows are cut under the trainer's accumulation and ranks; on one rank where there is none."""
        trainer = self.trainer
        if trainer is None:
            return Geometry(self.batch_size)
        return Geometry(self.batch_size, trainer.accumulate_grad_batches, trainer.world_size, trainer.global_rank)

    def train_dataloader(self) -> PlannedLoader | RolloutLoader:
        """Return the planned training batches of this rank, or the turns of a module that makes rollouts.

        Raises:
            InputError: If there is no training corpus, or Lightning is to put a sampler of its own in place.
        """
        check_trainable(self.training, self.trainer)
        self._train_loader = self._rollout_loader() if self.makes_rollouts else self._planned_loader()
        if self._resume_position is not None:
            self._train_loader.load_state_dict(self._resume_position)
        return self._train_loader

    def _planned_loader(self) -> PlannedLoader:
        examples, mixture, geometry = self.training.examples, self.training.mixture, self.geometry()
        rank_zero_info(geometry.describe_epoch(len(mixture), "pairs" if examples.holds_pairs else "examples"))
        sampler = PlannedSampler(mixture.epoch_order, geometry, self.arrangement.grouping(examples))
        return self._loader(examples, sampler)

    def val_dataloader(self) -> list[DataLoader]:
        """Return the held-out batches (if any) and the benchmark problems of this rank (if any)."""
        loaders: list[DataLoader] = []
        if self.training is not None and self.training.held_out and measures_held_out(self.trainer):
            held_out = self.training.held_out
            loaders.append(self._once(held_out, self.arrangement.held_out_order(held_out)))
        if self.benchmarks:
            limits = {"limit": self.fit_problems, "batch_size": self.benchmark_batch_size}
            loaders.append(benchmark_loader(self.benchmarks, self.geometry(), self.trainer, **limits))
        return loaders

    def measuring_loader(self, examples: Examples, some: np.ndarray) -> PlannedLoader:
        """Return this rank's batches of some examples, each once, the longest first.

        Args:
            examples: Those trained on, or those held out.
            some: (n,) int64, which of them.
        """
        return self._once(examples, LengthGrouping(examples.lengths).by_length(some))

    def _once(self, examples: Examples, order: np.ndarray) -> PlannedLoader:
        return self._loader(examples, PlannedSampler(lambda _: order, replace(self.geometry(), accumulate=1)))

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
            "data": self.data_hashes | {"train/examples": self.training.examples.sha256},
            "stream": None if self.prompts is None else self.stream.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with another template or other training data; note the position for the loader to come.

        Lightning would not restore a loader's own state where the schedule asks for the number of steps first.

        Raises:
            InputError: If the template, system prompt, answer format or chat template differ, or, in fit, the data.
        """
        check_same_prompt(state_dict, self.encoder)
        if self.trainer.state.fn != "fit":
            return
        check_same_data(state_dict["data"], self.data_hashes | {"train/examples": self.training.examples.sha256})
        self._resume_position = state_dict["position"]
        if self.prompts is not None:
            self.stream.load_state_dict(state_dict["stream"])
