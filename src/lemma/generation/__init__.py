"""Completions from prompts.

args.py      what the user says
draw.py      one token of a row, from the row's own random stream
local.py     completions by the model at hand: which engine, in which mode
decode.py    our own decoding loop, for models of attention
rows.py      what it knows of each row
cache.py     keys and values of rows that come and go
prefix.py    attention that reads a prompt once for all its completions
padded.py    transformers' ``generate``, for all other models and sharded weights
"""

from lemma.generation.args import SamplingArgs
from lemma.generation.draw import Sample, stream_seed
from lemma.generation.local import generate, sample_groups

__all__ = ["Sample", "SamplingArgs", "generate", "sample_groups", "stream_seed"]
