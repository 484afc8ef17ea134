"""Which engine draws a run's completions."""

from lemma.encoding import ChatEncoder
from lemma.generation.engine import Engine, LocalEngine
from lemma.generation.served import ServedArgs, ServedEngine, Weights

ENGINES = ("local", "served")


def make_engine(
    name: str, served: ServedArgs, encoder: ChatEncoder, *, weights: Weights | None = None, in_step: bool = False
) -> Engine:
    """Return the engine that has a name.

    Args:
        name: One of ``ENGINES``.
        served: Which servers, where it is served.
        encoder: The run's.
        weights: What those servers draw from; None is their base model.
        in_step: As for ``LocalEngine``.
    """
    if name == "served":
        return ServedEngine(served, encoder, weights=weights)
    return LocalEngine(in_step=in_step)
