"""Evaluation: benchmarks are generated for, graded, scored and recorded; runs are compared, outputs graded again.

benchmarks.py         which problems can be graded, and a rank's share of them
evaluator.py          generate, grade, score, record
records.py            one problem's completions and grades: a row of records.jsonl
scores.py             figures of a benchmark with their intervals
results.py            results.json; provenance.py: commit and data hashes in it
runs.py               an evaluation read back
comparison.py         paired tests and flips of runs; comparison_report.py: as tables and a figure
outputs.py            anybody's model outputs as ungraded records; regrading.py: graded without a GPU
"""

from lemma.evaluation.benchmarks import BenchmarkBatch, BenchmarkItem, benchmark_batches, gradable, gradable_benchmarks
from lemma.evaluation.comparison import Flips, Gain, differences, flips, paired_gain, paired_gains
from lemma.evaluation.evaluator import EvaluationArgs, Evaluator
from lemma.evaluation.records import Record, graded, read_records
from lemma.evaluation.results import Evaluation, evaluation_of, tier
from lemma.evaluation.runs import Run, load_run
from lemma.evaluation.scores import BenchmarkScores, Estimate

__all__ = [
    "BenchmarkBatch",
    "BenchmarkItem",
    "BenchmarkScores",
    "Estimate",
    "Evaluation",
    "EvaluationArgs",
    "Evaluator",
    "Flips",
    "Gain",
    "Record",
    "Run",
    "benchmark_batches",
    "differences",
    "evaluation_of",
    "flips",
    "gradable",
    "gradable_benchmarks",
    "graded",
    "load_run",
    "paired_gain",
    "paired_gains",
    "read_records",
    "tier",
]
