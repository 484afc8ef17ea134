"""From rows on disk to the micro-batches of an epoch: Lemma's data module against datasets and a padding collator.

Datasets and transformers are dependencies of Lemma, so the reference runs in Lemma's own environment, in a process of
its own. It gets the rows as conversations that are written already, encodes them by ``map`` with the chat template, a
thousand at a time, and pads each micro-batch. Lemma reads GSM8K's own rows, writes prompts and completions, looks for
rows that come twice, plans the epoch, and packs. A step is a start with an empty cache, and then another one, by which
the cache is full; both go through a whole epoch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.base import MAX_LENGTH, BaseArgs, make_base
from benchmark.harness import Prepared, Run, Unit, Workload
from benchmark.options import BenchArgs
from benchmark.problems import load_problems, problem_corpus, problem_texts, write_problems
from benchmark.work import check_counts
from lemma.corpora import CorpusArgs
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs
from lemma.files import write_jsonl, write_text
from lemma.prompts import PromptArgs, render_completion, render_messages
from lemma.types import InputError


@dataclass(frozen=True)
class DataBenchArgs(BenchArgs):
    """Data loading: rows per second of an epoch after a cold and a warm start, of Lemma and of datasets."""

    against: Literal["hf", "none"] = "hf"
    """The reference, datasets and the tokenizer of transformers; none runs Lemma alone."""
    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""
    num_rows: int = 2000
    """Rows of an epoch, at least 1; those that come twice count once."""
    steps: int = 3
    """Pairs of starts, cold and warm, that are measured, at least 1."""
    warmup: int = 1
    """Pairs of starts before those, compared but not measured, at least 1."""
    batch_size: int = 8
    """Rows of a micro-batch, at least 1."""
    vocab: int = 8192
    """Tokens of the BPE that is trained on the rows, at least 512."""
    layout: str = "auto"
    """Lemma's --data.layout."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(num_rows=1, batch_size=1, vocab=512)


def prepare(args: DataBenchArgs, folder: Path) -> Prepared:
    """Write the base's tokenizer, and the rows for either side.

    Raises:
        InputError: If the rows cannot be read or do not suffice.
    """
    base = folder / "base"
    problems = load_problems(problem_corpus(args.rows, args.num_rows), seed=args.seed)
    if args.num_rows > len(problems):
        raise InputError(f"--num_rows: expected at most the {len(problems)} that there are, but got {args.num_rows}.")
    shape = BaseArgs(args.against, vocab=args.vocab)  # decides how long rows are worth it
    make_base(shape, problem_texts(problems), base, seed=args.seed)
    corpus = write_problems(folder / "problems.jsonl", problems[: args.num_rows])
    options = {
        "batch_size": args.batch_size,
        "layout": args.layout,
        "max_prompt_length": MAX_LENGTH // 2,
        "max_completion_length": MAX_LENGTH // 2,
        "held_out_share": 0.0,
        "seed": args.seed,
    }
    data = MathDataModule(TokenizerArgs(str(base)), [CorpusArgs(**corpus)], cache_dir=None, **options)
    data.setup("validate")
    dropped = data.cleaning.dropped[0]
    kept = [each for each, out in zip(data.loaded["train"][0].problems, dropped, strict=True) if not out]
    prompt = PromptArgs()
    rows = (
        {"prompt": render_messages(each.problem, prompt), "completion": render_completion(each, prompt)}
        for each in kept
    )
    write_jsonl(folder / "conversations.jsonl", rows)
    job = {"base": str(base), "corpus": corpus, "options": options, "num_steps": args.num_steps}
    job |= {"conversations": str(folder / "conversations.jsonl"), "threads": args.num_threads}
    write_text(folder / "job.json", json.dumps(job))
    return Prepared.of_modules(
        "data_lemma",
        "data_hf",
        folder / "job.json",
        facts={"rows": len(kept), "rows_that_come_twice": args.num_rows - len(kept)},
    )


def check(args: DataBenchArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how many rows both sides made of the same ids, in every epoch.

    Raises:
        InputError: If an epoch of either side lacks a row, or a row's prompt or completion is of other ids.
    """
    with (folder / "conversations.jsonl").open() as file:
        expected = sum(1 for _ in file)
    for start in ("cold", "warm"):
        mine, theirs = (run.record[start] for run in (lemma, reference))
        check_counts(mine, theirs, same="examples")
        for step, found in enumerate(mine["num_examples"], start=1):
            if found != expected:
                raise InputError(
                    f"the sides did different work: step {step}: the {start} start has {found} of {expected} rows."
                )
    return {"equal_rows": expected}


WORKLOAD = Workload(
    DataBenchArgs,
    prepare,
    check,
    {"rows": Unit("num_examples"), "tokens": Unit("tokens"), "warm_rows": Unit("num_examples", "warm_seconds")},
)
