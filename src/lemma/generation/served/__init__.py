"""Completions from OpenAI-compatible servers.

args.py        what the user says
engine.py      the caller's side
loop.py        the thread of the event loop
client.py      many completions at once: tries and deadlines
backoff.py     how long to wait before the next try
pool.py        which server takes the next request, and which are left out
presence.py    how long those that are away are waited for, and what is said
wanted.py      what all completions of a draw have in common
server.py      one server: its models, one completion
dialect.py     what it understands, found by tiny requests
answers.py     what counts as a completion in an answer
transport.py   one request over HTTP
errors.py      what is tried again, and what is not
"""

from lemma.generation.served.args import ServedArgs
from lemma.generation.served.engine import ServedEngine, Weights
from lemma.generation.served.errors import ServerError

__all__ = ["ServedArgs", "ServedEngine", "ServerError", "Weights"]
