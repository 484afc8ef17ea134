"""Completions from prompts.

args.py      what the user says
problems.py  problems as requests, samples as completions
engine.py    what draws them: the model at hand, or servers (served/)
draw.py      one token of a row, from the row's own random stream
local.py     completions by the model at hand: which loop, in which mode
decode.py    our own decoding loop, for models of attention
rows.py      what it knows of each row
cache.py     keys and values of rows that come and go
prefix.py    attention that reads a prompt once for all its completions
padded.py    transformers' ``generate``, for all other models and sharded weights
"""

from lemma.generation.args import SamplingArgs
from lemma.generation.draw import Drawing, Sample, stream_seed
from lemma.generation.engine import Engine, LocalEngine, Request
from lemma.generation.local import sample_groups
from lemma.generation.making import ENGINES, make_engine
from lemma.generation.problems import completion_of, drawing_of, generate, requests_of
from lemma.generation.served import ServedArgs

__all__ = [
    "ENGINES",
    "Drawing",
    "Engine",
    "LocalEngine",
    "Request",
    "Sample",
    "SamplingArgs",
    "ServedArgs",
    "completion_of",
    "drawing_of",
    "generate",
    "make_engine",
    "requests_of",
    "sample_groups",
    "stream_seed",
]
