"""From problems to tensors: chat template, token ids, loss mask, truncation, layouts, optimiser windows."""

from lemma.encoding.arrangement import Arrangement, arrange
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.layouts import Batch, packed, padded
from lemma.encoding.tokenizer import CHAT_TEMPLATES, TokenizerArgs, load_tokenizer, stop_token_id
from lemma.encoding.training_set import HoldOut, TrainingSet, build_training_set, find_overlaps
from lemma.encoding.truncation import Census, Limits, census_table, truncate_all
from lemma.encoding.windows import Geometry, LengthGrouping, PlannedExamples, PlannedLoader, PlannedSampler, plan

__all__ = [
    "CHAT_TEMPLATES",
    "Arrangement",
    "Batch",
    "Census",
    "ChatEncoder",
    "Example",
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
    "find_overlaps",
    "load_tokenizer",
    "packed",
    "padded",
    "plan",
    "stop_token_id",
    "truncate_all",
]
