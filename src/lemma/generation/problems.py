"""From problems to requests, and from samples to completions, whatever engine draws them."""

from collections.abc import Sequence

from torch import nn

from lemma.encoding import ChatEncoder
from lemma.generation.args import SamplingArgs
from lemma.generation.draw import Drawing, Sample, stream_seed
from lemma.generation.engine import LocalEngine, Request
from lemma.types import GREEDY, Completion, Problem


def requests_of(
    problem: Problem, samples: Sequence[int], encoder: ChatEncoder, sampling: SamplingArgs
) -> list[Request]:
    """Return a request for each of a problem's completions that is wanted.

    Args:
        problem: What to ask.
        samples: Index of each completion among the problem's, ``GREEDY`` for the greedy one.
        encoder: Renders the prompt.
        sampling: Whose seed begins every stream.
    """
    messages = encoder.messages(problem.problem)
    prompt_ids = encoder.encode_prompt(problem.problem)
    return [Request(prompt_ids, _seed(problem, sample, sampling), messages) for sample in samples]


def drawing_of(encoder: ChatEncoder, sampling: SamplingArgs, *, merge: bool = False) -> Drawing:
    """Return how completions are drawn.

    Args:
        encoder: Knows what ends a completion.
        sampling: What the user says.
        merge: As for ``Drawing``.
    """
    return Drawing(
        encoder.stop_ids,
        encoder.pad_id,
        sampling.max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        sampling.max_batch_tokens,
        merge,
    )


def completion_of(problem: Problem, number: int, sample: Sample, encoder: ChatEncoder) -> Completion:
    """Return the completion that was drawn as ``number`` of a problem's."""
    if sample.text is not None:
        text = sample.text.encode("utf-8", "replace").decode()  # JSON can spell half a surrogate pair, a file cannot
        num_tokens = sample.num_tokens or 0
    else:
        text, num_tokens = encoder.decode(sample.ids[:-1] if sample.stopped else sample.ids), len(sample.ids)
    return Completion(problem.id, problem.source, number, text, num_tokens, sample.stopped)


def generate(
    model: nn.Module,
    problems: list[Problem],
    encoder: ChatEncoder,
    sampling: SamplingArgs,
    *,
    merge: bool = False,
) -> list[list[Completion]]:
    """Return the completions of each problem by the model at hand, in the order of ``SamplingArgs.samples``.

    Args:
        model: As for ``sample_groups``.
        problems: What to ask.
        encoder: Renders prompts, knows stop tokens, decodes.
        sampling: How many, and how they are drawn.
        merge: As for ``sample_groups``.
    """
    engine = LocalEngine()
    engine.refresh(model)
    requests = [each for problem in problems for each in requests_of(problem, sampling.samples, encoder, sampling)]
    places = [(problem, number) for problem in problems for number in sampling.samples]
    drawn = dict(engine.draw(requests, drawing_of(encoder, sampling, merge=merge)))
    flat = [completion_of(*place, drawn[index], encoder) for index, place in enumerate(places)]
    size = len(sampling.samples)
    return [flat[start : start + size] for start in range(0, len(flat), size)]


def _seed(problem: Problem, sample: int, sampling: SamplingArgs) -> int | None:
    return None if sample == GREEDY else stream_seed(sampling.seed, problem.source, problem.id, sample)
