"""From problems to tensors: chat template, token ids, loss mask, truncation, layouts, optimiser windows."""

from lemma.encoding.arrangement import Arrangement, arrange
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.examples import Examples, ExampleStore, longest_example, write_examples
from lemma.encoding.layouts import Batch, packed, padded, sequence_lengths
from lemma.encoding.tokenizer import CHAT_TEMPLATES, TokenizerArgs, load_tokenizer, stop_token_id
from lemma.encoding.training_set import HoldOut, TrainingSet, build_training_set, encode_corpus, take_census
from lemma.encoding.truncation import Census, Limits, census_table, truncate
from lemma.encoding.windows import Geometry, LengthGrouping, PlannedExamples, PlannedLoader, PlannedSampler, plan

__all__ = [
    "CHAT_TEMPLATES",
    "Arrangement",
    "Batch",
    "Census",
    "ChatEncoder",
    "Example",
    "ExampleStore",
    "Examples",
    "Geometry",
    "HoldOut",
    "LengthGrouping",
    "Limits",
    "PlannedExamples",
    "PlannedLoader",
    "PlannedSampler",
    "TokenizerArgs",
    "TrainingSet",
    "arrange",
    "build_training_set",
    "census_table",
    "encode_corpus",
    "load_tokenizer",
    "longest_example",
    "packed",
    "padded",
    "plan",
    "sequence_lengths",
    "stop_token_id",
    "take_census",
    "truncate",
    "write_examples",
]
