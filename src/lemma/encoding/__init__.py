"""From problems and pairs to tensors: chat template, token ids, loss mask, truncation, layouts, optimiser windows."""

from lemma.encoding.arrangement import Arrangement, arrange
from lemma.encoding.batch import Batch
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.example_store import ExampleStore, write_examples
from lemma.encoding.examples import Examples, longest_example
from lemma.encoding.layouts import LAYOUTS, packed, padded, sequence_lengths, shared_prefix
from lemma.encoding.pairs import LengthBalance, PairArgs, balance_table
from lemma.encoding.tokenizer import CHAT_TEMPLATES, TokenizerArgs, load_tokenizer, stop_token_id
from lemma.encoding.training_set import HoldOut, TrainingSet, build_training_set, encode_corpus, take_census
from lemma.encoding.truncation import Census, Limits, census_table, truncate
from lemma.encoding.windows import Geometry, LengthGrouping, PlannedExamples, PlannedLoader, PlannedSampler, plan

__all__ = [
    "CHAT_TEMPLATES",
    "LAYOUTS",
    "Arrangement",
    "Batch",
    "Census",
    "ChatEncoder",
    "Example",
    "ExampleStore",
    "Examples",
    "Geometry",
    "HoldOut",
    "LengthBalance",
    "LengthGrouping",
    "Limits",
    "PairArgs",
    "PlannedExamples",
    "PlannedLoader",
    "PlannedSampler",
    "TokenizerArgs",
    "TrainingSet",
    "arrange",
    "balance_table",
    "build_training_set",
    "census_table",
    "encode_corpus",
    "load_tokenizer",
    "longest_example",
    "packed",
    "padded",
    "plan",
    "sequence_lengths",
    "shared_prefix",
    "stop_token_id",
    "take_census",
    "truncate",
    "write_examples",
]
