"""Supervised fine-tuning of an adapter: ``lemma fit`` against TRL's SFTTrainer, unpacked, as it is fastest on a CPU."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.base import MAX_LENGTH
from benchmark.harness import Prepared, Unit, Workload
from benchmark.options import expect
from benchmark.problems import with_long_solutions
from benchmark.training import Objective, TrainingArgs, check_training, prepare_problems
from lemma.encoding import Example


@dataclass(frozen=True)
class SFTBenchArgs(TrainingArgs):
    """Supervised fine-tuning with LoRA: tokens per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""
    length: int | None = None
    """Tokens of every sequence, give or take a few, up to 8192, by other worked problems before the solution; null is
    the solution alone."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        fits = self.length is None or 1 <= self.length <= MAX_LENGTH // 2
        expect(fits, "length", f"null or 1 to {MAX_LENGTH // 2}", self.length)


def prepare(args: SFTBenchArgs, folder: Path) -> Prepared:
    """Write what both sides read; see ``prepare_problems``."""
    return prepare_problems(args, folder, _OBJECTIVE, with_long_solutions, args.length)


def _row(example: Example) -> dict[str, list[int]]:
    return {"prompt": example.prompt_ids, "completion": example.completions[0]}


_OBJECTIVE = Objective(
    module={"class_path": "lemma.modules.SFTModule"},
    reference="benchmark.sft_trl",
    row=_row,
    flops_per_weight=4.0,  # forward 2, backward 2: nothing to compute for frozen weights
    job={},
)

WORKLOAD = Workload(SFTBenchArgs, prepare, check_training, {"tokens": Unit("tokens")})
