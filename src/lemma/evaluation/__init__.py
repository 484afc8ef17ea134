"""Evaluation: benchmarks are generated for, graded, scored and recorded; runs are compared."""

from lemma.evaluation.benchmarks import BenchmarkBatch, BenchmarkItem, benchmark_batches
from lemma.evaluation.comparison import Gain, Run, comparison_table, load_run, paired_gain
from lemma.evaluation.evaluator import EvaluationArgs, Evaluator
from lemma.evaluation.records import Evaluation, Record
from lemma.evaluation.scores import BenchmarkScores, Estimate

__all__ = [
    "BenchmarkBatch",
    "BenchmarkItem",
    "BenchmarkScores",
    "Estimate",
    "Evaluation",
    "EvaluationArgs",
    "Evaluator",
    "Gain",
    "Record",
    "Run",
    "benchmark_batches",
    "comparison_table",
    "load_run",
    "paired_gain",
]
