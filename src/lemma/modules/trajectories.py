"""Draws trajectories of the training problems by several strategies, which a bandit chooses; ``lemma predict``."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from lemma.answers import GRADER_VERSION, Grader
from lemma.answers.conventions import Conventions
from lemma.datamodule.rounds import Rounds
from lemma.datamodule.sources import untested_shots
from lemma.encoding import ChatEncoder
from lemma.evaluation import Progress, RowFile, earlier_rows, json_fingerprint, set_aside_others
from lemma.modules.context import check_arms_context, context_length
from lemma.modules.policy_module import PolicyModule
from lemma.modules.serving import agreed, check_served, going_on_from
from lemma.modules.sharding import reshard
from lemma.rewards.coherence import CoherenceArgs
from lemma.rollouts import (
    Arm,
    ArmArgs,
    BanditArgs,
    Posterior,
    Round,
    TrajectorySettings,
    TrajectorySource,
    check_arms,
    checked_row,
    earned,
)
from lemma.types import InputError

_CHECKED = 64  # problems whose prompts are encoded by every arm before the first is asked
KIND = "trajectories"
"""What the rows of a run's files are."""


class Outcome(NamedTuple):
    """What came of a problem.

    Attributes:
        rewards: What its arms have earned, as the bandit sees it.
        accuracy: Share of its trajectories that are correct.
    """

    rewards: list[float]
    accuracy: float


class TrajectoryModule(PolicyModule):
    """Draws several trajectories of each training problem, scores them, and keeps them in a file; it is not trained.

    A batch is a round of problems. Every rank chooses the arms of all of them from the same posterior, and draws for
    its share; what was earned is told to all before the next round.

    Args:
        arms: The strategies.
        bandit: Which of them a problem is asked by.
        num_trajectories: Completions of a problem, at least 1.
        round_problems: Problems between two changes of the posterior, over all ranks.
        max_new_tokens: Longest completion, in tokens, the stop token included.
        max_batch_tokens: Token budget of one batch of sequences: rows x (prompt + max_new_tokens).
        coherence: What counts how much in scores and rewards.
        counterfactuals: Variants of each problem that every arm it was asked by is asked, too; for s_cf.
        **kwargs: Those of ``PolicyModule``; conventions of grading are those of ``evaluation``.

    Attributes:
        posterior: What the arms have earned; None before `lemma predict` begins.
        listeners: Called with the progress whenever it has changed.

    Raises:
        InputError: If a number is out of range, two arms share a name, or a weight is of no arm.
    """

    objective = "trajectories"
    draws_trajectories = True
    untrained = (
        "TrajectoryModule draws trajectories and cannot be trained; it is for `lemma predict` and `lemma validate`. To "
        "train on rollouts as they are drawn: lemma.modules.GRPOModule."
    )

    def __init__(
        self,
        arms: list[ArmArgs] = [ArmArgs("direct")],  # noqa: B006, B008 (never changed)
        bandit: BanditArgs = BanditArgs(),  # noqa: B008 (frozen)
        num_trajectories: int = 8,
        round_problems: int = 64,
        max_new_tokens: int = 512,
        max_batch_tokens: int = 32768,
        coherence: CoherenceArgs = CoherenceArgs(),  # noqa: B008
        counterfactuals: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_arms(arms)
        numbers = {"num_trajectories": (num_trajectories, 1), "round_problems": (round_problems, 1)}
        numbers |= {"max_new_tokens": (max_new_tokens, 1), "max_batch_tokens": (max_batch_tokens, 1)}
        for name, (value, least) in (numbers | {"counterfactuals": (counterfactuals, 0)}).items():
            if value < least:
                raise InputError(f"model.{name}: expected at least {least}, but got {value}.")
        if strangers := sorted(coherence.arm_weights.keys() - {arm.name for arm in arms}):
            raise InputError(f"model.coherence.arm_weights: there is no arm {', '.join(strangers)} in model.arms.")
        if bandit.reward == "total" and not coherence.alpha + coherence.beta + coherence.length_cost:
            raise InputError("model.bandit.reward: total is always 0 where alpha, beta and length_cost are.")
        self.arms = arms
        self.bandit = bandit
        self.num_trajectories = num_trajectories
        self.round_problems = round_problems
        self.max_new_tokens = max_new_tokens
        self.max_batch_tokens = max_batch_tokens
        self.coherence = coherence
        self.counterfactuals = counterfactuals
        self.posterior: Posterior | None = None
        self.listeners: list[Callable[[Progress], None]] = []
        self._at_work: list[Arm] = []
        self._progress = Progress()
        self._source: TrajectorySource | None = None
        self._grader: Grader | None = None
        self._file: RowFile | None = None
        self._kept: dict[int, Outcome] = {}

    def setup(self, stage: str) -> None:
        """Refuse arms that ask for what there is not, before weights are loaded."""
        if stage == "predict":
            data = self.trainer.datamodule
            prompts = [arm.prompt(data.prompt) for arm in self.arms]
            self._at_work = [
                Arm(arm, ChatEncoder(data.encoder.tokenizer, prompt, untested_shots(prompt, data.loaded)))
                for arm, prompt in zip(self.arms, prompts, strict=True)
            ]

    def on_predict_start(self) -> None:
        """Read what an earlier run has left, and begin."""
        trainer = self.trainer
        if self.engine_name == "served":
            check_served(trainer, self.served_args)
        rounds: Rounds = trainer.predict_dataloaders
        check_arms_context(
            self._at_work,
            rounds.longest(_CHECKED),
            max_new_tokens=self.max_new_tokens,
            context=context_length(self.policy.causal_lm),
        )
        self.engine.refresh(self.policy)
        num_problems = rounds.num_problems(int(sum(trainer.num_predict_batches)))
        self._begin_file(rounds, num_problems)
        share = len(range(self.global_rank, num_problems, trainer.world_size))
        self._progress = Progress(num_problems=share, num_completions=share * self.num_trajectories)
        args = self.evaluation_args
        self._grader = Grader(args.grader_workers, args.grader_timeout, Conventions(args.ordered_lists, args.units))
        settings = TrajectorySettings(
            self.max_new_tokens, self.max_batch_tokens, self.counterfactuals, self.coherence, trainer.datamodule.seed
        )
        self._source = TrajectorySource(self._at_work, settings, self._grader, self._progress)
        self.posterior = Posterior(self.bandit, len(self.arms))

    def predict_step(self, batch: Round, batch_idx: int) -> bool:
        """Draw the trajectories of this rank's problems of a round, and learn what those of all ranks have earned."""
        seed, number = self.trainer.datamodule.seed, self.num_trajectories
        chosen = {item.place: self.posterior.choose(item.problem, number, seed=seed) for item in batch.items}
        with going_on_from(None if self._file is None else self._file.path.parent):
            told = agreed(lambda: self._draw(batch, chosen))
        outcomes = {place: outcome for each in told for place, outcome in each.items()}
        for item in batch.items:  # in one order on every rank, so that sums are the same to the bit
            self.posterior.earn(item.problem, chosen[item.place], outcomes[item.place].rewards)
        reshard(self.policy)
        return True

    def _draw(self, batch: Round, chosen: dict[int, list[int]]) -> dict[int, Outcome]:
        """Return what came of this rank's problems, by their place."""
        mine = [item for item in batch.items if item.place % self.trainer.world_size == self.global_rank]
        outcomes = {item.place: self._kept[item.place] for item in mine if item.place in self._kept}
        for outcome in outcomes.values():
            self._progress.resume(self.num_trajectories, outcome.accuracy)
        open_items = [item for item in mine if item.place not in outcomes]
        attempts = [self._source.attempt(item, batch.number, chosen[item.place]) for item in open_items]
        self._tell()
        for row in self._source.rows(self.engine, attempts):
            if self._file is not None:
                self._file.append(row)
            outcomes[row["place"]] = self._outcome(row)
            self._tell()
        return outcomes

    def _outcome(self, row: dict[str, Any]) -> Outcome:
        accuracy = row["n_correct"] / row["n_total"]
        return Outcome(earned(row, self.bandit.reward, self.coherence), accuracy)

    def _tell(self) -> None:
        for listener in self.listeners:
            listener(self._progress)

    def on_predict_epoch_end(self) -> None:
        """Wait for the disk, and for all ranks."""
        self._grader.close()
        if self._file is not None:
            self._file.close()
        self.trainer.strategy.barrier("trajectories")

    # What a killed run leaves

    def _begin_file(self, rounds: Rounds, num_problems: int) -> None:
        """Take what is there already, and open this rank's file; a collective call."""
        trainer = self.trainer
        if trainer.fast_dev_run:
            return
        folder = Path(trainer.default_root_dir) / "predict"
        models = agreed(self.engine.connect)[0] if self.streams else None
        fingerprint, kept = None, {}
        if trainer.is_global_zero:
            fingerprint = json_fingerprint(self.trajectory_fingerprint(rounds, models))
            set_aside_others(folder, KIND, fingerprint)
            kept = {row["place"]: self._outcome(row) for row in map(checked_row, earlier_rows(folder, KIND)) if row}
        fingerprint, self._kept = trainer.strategy.broadcast((fingerprint, kept))  # read before any rank appends
        if self._kept:
            rank_zero_info(f"resumed: {len(self._kept):,} of {num_problems:,} problems from {folder}")
        self._file = RowFile(folder, KIND, self.global_rank, fingerprint)

    def trajectory_fingerprint(self, rounds: Rounds, models: list[str] | None) -> dict[str, Any]:
        """Return whatever decides a row, by name, as primitives or mappings of them.

        Args:
            rounds: The problems.
            models: Names of the servers' base model, if servers draw.
        """
        data, args = self.trainer.datamodule, self.evaluation_args
        sampling = ("num_trajectories", "round_problems", "max_new_tokens", "counterfactuals")
        return {
            **self.fingerprint(models),
            "sampling": {name: getattr(self, name) for name in sampling} | {"seed": data.seed},
            "arms": {arm.args.name: {**asdict(arm.args), "prompt": arm.encoder.template_hash} for arm in self._at_work},
            "bandit": asdict(self.bandit),
            "coherence": asdict(self.coherence),
            "grading": {"version": GRADER_VERSION, "ordered_lists": args.ordered_lists, "units": args.units},
            "data": {name: value for name, value in data.data_hashes.items() if name.startswith("train/")},
            "order": hashlib.sha256(rounds.order.tobytes()).hexdigest(),
        }
