"""What a module that makes rollouts or trajectories is given: problems to draw completions for, and turns to train.

The data of such a run are prompts. The module asks for the next ones when it has trained on those it had; Lightning
asks the loader for a batch, and the loader asks the module.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from lemma.corpora import Corpus
from lemma.datamodule.answers import without_ungradable
from lemma.datamodule.rounds import Rounds
from lemma.encoding import Batch, ChatEncoder, HoldOut, Limits, TrainingSet, build_training_set
from lemma.rollouts import Prompt, PromptEncoder, PromptStream, RolloutSize
from lemma.types import InputError, Problem


class RolloutData:
    """What a DataModule is to a module that makes rollouts: where its prompts come from, and what asks it for batches.

    To be mixed in; ``trainer``, ``geometry`` and ``prompts`` are the DataModule's.
    """

    prompts: "Prompts | None" = None

    @property
    def makes_rollouts(self) -> bool:
        """Return whether the module draws completions for training problems itself, and asks for prompts."""
        module = getattr(self.trainer, "lightning_module", None)
        return getattr(module, "makes_rollouts", False) or getattr(module, "draws_trajectories", False)

    @property
    def stream(self) -> PromptStream:
        """Return the order of prompts."""
        return self.prompts.stream

    def rollout_size(self) -> RolloutSize:
        """Return the numbers of the module's rollouts.

        Raises:
            InputError: If they do not go together.
        """
        module, geometry = self.trainer.lightning_module, self.geometry()
        size = RolloutSize(
            problems=module.problems_per_rollout,
            group_size=module.group_size,
            batch_size=geometry.batch_size,
            accumulate=geometry.accumulate,
            ranks=geometry.num_ranks,
            num_iterations=module.num_iterations,
        )
        size.check()
        return size

    def predict_dataloader(self) -> Rounds:
        """Return the training problems in the module's rounds, the same on every rank.

        Raises:
            InputError: If there is no training corpus.
        """
        if self.prompts is None:
            raise InputError("data.corpora: no problems to draw trajectories for; add a corpus.")
        return Rounds(self.prompts, self.trainer.lightning_module.round_problems)

    def _rollout_loader(self) -> "RolloutLoader":
        size = self.rollout_size()
        rank_zero_info(f"A rollout is {size.describe()}.")
        return RolloutLoader(lambda: self.trainer.lightning_module.next_batch(), size, self.stream.epoch_length)


class Prompts:
    """The problems of a run, by their index among the training examples, and in the order in which they are asked.

    Args:
        training: Encoded prompts.
        corpora: That they come from.

    Attributes:
        stream: The order, the same on every rank; its state is the position.
    """

    def __init__(self, training: TrainingSet, corpora: Sequence[Corpus]) -> None:
        self.training = training
        self.stream = PromptStream(training.mixture.epoch_order)
        self._corpora = corpora

    @classmethod
    def of(
        cls,
        corpora: Sequence[Corpus],
        dropped: Sequence[np.ndarray],
        *,
        encoder: ChatEncoder,
        limits: Limits,
        seed: int,
        epoch: str,
        cache: Path | None,
    ) -> Self:
        """Encode the prompts of those training problems that can be graded; none is held out.

        Args:
            corpora: To make rollouts for.
            dropped: For each, which of its problems must not be used; (N,) bool.
            encoder: The run's.
            limits: Longest prompt; no completion here is longer than its stop token.
            seed: Of the mixture.
            epoch: Which corpus ends an epoch.
            cache: Folder in which encoded prompts are kept for the next time, or None.

        Raises:
            InputError: As ``without_ungradable`` and ``build_training_set``.
        """
        rank_zero_info("Rollouts have no held-out loss: data.held_out is not measured, data.held_out_share not used.")
        training = build_training_set(
            corpora,
            [],
            without_ungradable(corpora, dropped, cache=cache),
            encoder=PromptEncoder(encoder),
            limits=limits,
            hold_out=HoldOut(share=0.0, max_examples=0),
            seed=seed,
            epoch=epoch,
            cache=cache,
        )
        return cls(training, corpora)

    def problem(self, index: int) -> Problem:
        """Return the problem of a training example."""
        examples = self.training.examples
        number = int(examples.corpus[index])
        part = examples.parts[number]
        offset = index - int(np.searchsorted(examples.corpus, number))
        return self._corpora[number].problems[int(part.column("rows")[offset])]

    def prompt(self, index: int) -> list[int]:
        """Return the prompt of a training example as token ids."""
        return self.training.examples[index].prompt_ids

    def draw(self, number: int) -> list[Prompt]:
        """Return the next prompts of the stream; to be called with the same number on every rank.

        Args:
            number: How many, over all ranks.
        """
        draws = self.stream.draw(number)
        return [
            Prompt(self.problem(index), self.prompt(index), index, place, int(self.training.examples.corpus[index]))
            for index, place in zip(draws.indices.tolist(), draws.places.tolist(), strict=True)
        ]


class RolloutLoader:
    """Asks for each micro-batch when it is wanted; it has a length, so that Lightning wants none ahead of time.

    Its position is part of the checkpoint, as ``PlannedLoader``'s; the rollout under way is part of the module's.

    Args:
        next_batch: Makes the next micro-batch of this rank.
        size: The numbers of a rollout.
        num_problems: Problems of an epoch.

    Raises:
        InputError: If an epoch has too few problems for a rollout.
    """

    def __init__(self, next_batch: Callable[[], Batch], size: RolloutSize, num_problems: int) -> None:
        if num_problems < size.problems:
            raise InputError(
                f"model.problems_per_rollout: expected at most the {num_problems} problems of an epoch, but got "
                f"{size.problems}."
            )
        self._next_batch = next_batch
        self._size = size
        self._length = size.micro_batches * size.num_iterations * (num_problems // size.problems)
        self._epoch, self._position = 0, 0
        self._started = False

    def __len__(self) -> int:
        """Return the micro-batches of a whole epoch, whatever the position."""
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of a resumed epoch, or the next epoch."""
        if self._started:
            self._epoch, self._position = self._epoch + 1, 0
        self._started = True
        while self._position < self._length:
            batch = self._next_batch()
            self._position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return epoch, position in micro-batches, and what gives the position its meaning."""
        size = self._size
        return {
            "epoch": self._epoch,
            "position": self._position,
            "num_micro_batches": self._length,
            "problems_per_rollout": size.problems,
            "group_size": size.group_size,
            "batch_size": size.batch_size,
            "accumulate_grad_batches": size.accumulate,
            "num_iterations": size.num_iterations,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position.

        Raises:
            InputError: If data or rollouts differ in size from the checkpoint's, so that the position means nothing.
        """
        for key, value in self.state_dict().items():
            if key not in ("epoch", "position") and state.get(key) != value:
                raise InputError(
                    f"ckpt_path: the checkpoint was written with {key} = {state.get(key)}, this run has {value}. A run "
                    "resumes with the data, rollouts, batch size, accumulation and devices it had; to go on from the "
                    "adapter alone, use --model.policy.adapter."
                )
        finished = state["position"] >= self._length
        self._epoch = state["epoch"] + finished
        self._position = 0 if finished else state["position"]
        self._started = False
