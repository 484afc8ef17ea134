"""Evaluation: benchmarks are generated for, graded, scored and recorded; runs are compared, outputs graded again.

benchmarks.py         which problems can be graded, and a rank's share of them
evaluator.py          draw, grade, score, record
asking.py             what is to be drawn for a problem, and how far an evaluation is
journal.py            completions on disk as they are drawn, for the run after a killed one; row_files.py: any rows
records.py            one problem's completions and grades: a row of records.jsonl
scores.py             figures of a benchmark with their intervals
results.py            results.json; provenance.py: commit and data hashes in it
runs.py               an evaluation read back
comparison.py         paired tests and flips of runs; comparison_report.py: as tables and a figure
outputs.py            anybody's model outputs as ungraded records; regrading.py: graded without a GPU
"""

from lemma.evaluation.asking import Progress
from lemma.evaluation.benchmarks import BenchmarkBatch, BenchmarkItem, benchmark_batches, gradable, gradable_benchmarks
from lemma.evaluation.comparison import Flips, Gain, differences, flips, paired_gain, paired_gains
from lemma.evaluation.evaluator import EvaluationArgs, Evaluator
from lemma.evaluation.journal import Earlier, Journal, remove_journals
from lemma.evaluation.records import Record, graded, read_records
from lemma.evaluation.results import Evaluation, evaluation_of, tier
from lemma.evaluation.row_files import (
    RowFile,
    earlier_rows,
    find_rows,
    json_fingerprint,
    remove_row_files,
    set_aside_others,
    write_rows,
)
from lemma.evaluation.runs import Run, load_run
from lemma.evaluation.scores import BenchmarkScores, Estimate

__all__ = [
    "BenchmarkBatch",
    "BenchmarkItem",
    "BenchmarkScores",
    "Earlier",
    "Estimate",
    "Evaluation",
    "EvaluationArgs",
    "Evaluator",
    "Flips",
    "Gain",
    "Journal",
    "Progress",
    "Record",
    "RowFile",
    "Run",
    "benchmark_batches",
    "differences",
    "earlier_rows",
    "evaluation_of",
    "find_rows",
    "flips",
    "gradable",
    "gradable_benchmarks",
    "graded",
    "json_fingerprint",
    "load_run",
    "paired_gain",
    "paired_gains",
    "read_records",
    "remove_journals",
    "remove_row_files",
    "set_aside_others",
    "tier",
    "write_rows",
]
