"""From chosen arms to rows: trajectories are drawn, graded, held against one another and rewarded.

1. A completion's random stream is seeded by the run's seed, its arm, source and problem id, and its number.
2. Arms that are drawn alike are one call of the engine; on every rank the same calls, for some engines need all ranks.
3. A problem whose last completion is there is graded and scored, and becomes a row: that of ``records.jsonl``, with
   the lists ``arms``, ``scores`` and ``rewards`` beside ``completions``, and the answers to its variants.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lemma.answers import Grader, extract_answer
from lemma.evaluation import Progress, Record, graded
from lemma.generation import Drawing, Engine, Request, completion_of, stream_seed
from lemma.rewards.coherence import (
    Coherence,
    CoherenceArgs,
    Trajectory,
    coherence_reward,
    make_variants,
    score_group,
    variant_verdicts,
)
from lemma.rollouts.rounds import Arm, Attempt, RoundItem, Wanted
from lemma.types import Completion, Verdict


@dataclass(frozen=True)
class TrajectorySettings:
    """What is drawn for a problem, whichever arms draw it.

    Attributes:
        max_new_tokens: Longest completion, in tokens, the stop token included.
        max_batch_tokens: Token budget of one batch of sequences.
        counterfactuals: Variants of a problem that each of its arms is asked.
        coherence: What counts how much.
        seed: Of the run.
    """

    max_new_tokens: int
    max_batch_tokens: int
    counterfactuals: int
    coherence: CoherenceArgs
    seed: int


class TrajectorySource:
    """Makes the rows of problems.

    Args:
        arms: K arms.
        settings: What is drawn.
        grader: Of answers.
        progress: Told of every trajectory and problem.
    """

    def __init__(self, arms: Sequence[Arm], settings: TrajectorySettings, grader: Grader, progress: Progress) -> None:
        self._arms = arms
        self._settings = settings
        self._grader = grader
        self._progress = progress

    def attempt(self, item: RoundItem, round_number: int, arms: Sequence[int]) -> Attempt:
        """Return a problem of which nothing is drawn yet.

        Args:
            item: The problem.
            round_number: Of its round.
            arms: Which arm gives each trajectory.
        """
        variants = make_variants(item.problem, self._settings.counterfactuals, seed=self._settings.seed)
        return Attempt(item, round_number, arms, variants)

    def rows(self, engine: Engine, attempts: Sequence[Attempt]) -> Iterator[dict[str, Any]]:
        """Yield a row for each problem as its last completion comes.

        Args:
            engine: Draws from the policy as it was last told.
            attempts: This rank's; may be none, the engine is asked all the same.

        Raises:
            ServerError: If servers give up on a completion.
        """
        for drawing, arms in self._drawings():
            places = [(each, wanted) for each in attempts for arm in arms for wanted in each.wanted(arm)]
            requests = [self._request(*place) for place in places]
            for number, sample in engine.draw(requests, drawing):
                attempt, wanted = places[number]
                problem, encoder = attempt.problem(wanted), self._arms[wanted.arm].encoder
                completion = completion_of(problem, wanted.sample, sample, encoder)
                attempt.add(wanted, completion)
                if wanted.variant < 0:
                    self._progress.draw(completion)
                if attempt.is_complete:
                    yield self._row(attempt)

    def _drawings(self) -> list[tuple[Drawing, list[int]]]:
        """Return which arms are drawn alike, and how."""
        found: dict[tuple[float, float], list[int]] = {}
        for number, arm in enumerate(self._arms):
            found.setdefault((arm.args.temperature, arm.args.top_p), []).append(number)
        encoder, settings = self._arms[0].encoder, self._settings
        limits = (encoder.stop_ids, encoder.pad_id, settings.max_new_tokens)
        return [(Drawing(*limits, *key, settings.max_batch_tokens, merge=True), arms) for key, arms in found.items()]

    def _request(self, attempt: Attempt, wanted: Wanted) -> Request:
        problem, arm = attempt.problem(wanted), self._arms[wanted.arm]
        source = f"trajectory/{arm.args.name}/{problem.source}"
        seed = stream_seed(self._settings.seed, source, problem.id, wanted.sample)
        return Request(arm.encoder.encode_prompt(problem.problem), seed, arm.encoder.messages(problem.problem))

    def _row(self, attempt: Attempt) -> dict[str, Any]:
        item, completions = attempt.item, attempt.trajectories
        ungraded = replace(Record.of(item.place, item.problem, completions, 0), tokens_in=None)  # each arm has its own
        [record] = graded([ungraded], self._grader)
        self._progress.grade(record)
        of_variants = {arm: self._of_variants(attempt, arm) for arm in dict.fromkeys(attempt.arms)}
        scores = self._scores(attempt, completions, of_variants)
        return {
            **record.as_json(),
            "place": item.place,
            "round": attempt.round_number,
            "arms": [self._name(arm) for arm in attempt.arms],
            "scores": [_named(score) for score in scores],
            "rewards": [
                self._reward(grade.verdict, score, completion)
                for grade, score, completion in zip(record.grades, scores, completions, strict=True)
            ],
            "variants": [answer for arm in of_variants for answer in of_variants[arm]],
        }

    def _of_variants(self, attempt: Attempt, arm: int) -> list[dict[str, Any]]:
        """Return what an arm answers to each variant."""
        return [
            {
                "arm": self._name(arm),
                "kind": variant.kind,
                "problem": variant.problem.problem,
                "expected": variant.expected,
                "changed": variant.changed,
                "completion": completion.text,
                "prediction": _answer(completion.text),
            }
            for variant, completion in zip(attempt.variants, attempt.of_variants(arm), strict=True)
        ]

    def _scores(
        self, attempt: Attempt, completions: Sequence[Completion], of_variants: dict[int, list[dict[str, Any]]]
    ) -> list[Coherence]:
        answers = [_answer(completion.text) for completion in completions]
        trajectories = []
        classes = self._grader.group(answers)  # the gold answer has no part in coherence
        for completion, answer, label, arm in zip(completions, answers, classes, attempt.arms, strict=True):
            varied = [each["prediction"] for each in of_variants[arm]]
            verdicts = variant_verdicts(answer, attempt.variants, varied, self._grader)
            trajectories.append(Trajectory(completion.text, label, self._name(arm), verdicts))
        return score_group(trajectories, self._settings.coherence)

    def _reward(self, verdict: Verdict, score: Coherence, completion: Completion) -> float:
        args, limit = self._settings.coherence, self._settings.max_new_tokens
        weights = {name: getattr(args, name) for name in ("alpha", "beta", "length_cost")}
        num_tokens = completion.num_tokens
        return round(coherence_reward(verdict is Verdict.CORRECT, score.mean, num_tokens, limit, **weights), 6)

    def _name(self, arm: int) -> str:
        return self._arms[arm].args.name


def _answer(text: str) -> str | None:
    """Return the answer that a text marks as one."""
    found = extract_answer(text)
    return found.answer if found is not None and found.strict else None


def _named(score: Coherence) -> dict[str, float | None]:
    names = {"s_end": score.end, "s_path": score.path, "s_cf": score.counterfactual, "s_wm": score.mean}
    return {name: None if value is None else round(value, 6) for name, value in names.items()}
