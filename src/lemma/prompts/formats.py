r"""Answer formats: how a worked solution and its answer are written as one completion.

``boxed`` is MATH's own (``\boxed{42}``), ``gsm8k`` is GSM8K's own (``#### 42``), ``tags`` is
``<reasoning>…</reasoning><answer>…</answer>``, as reasoning models are often trained to write.
"""

from collections.abc import Callable

from lemma.answers import Extraction, extract_answer, strip_boxes


def render_boxed(solution: str, answer: str) -> str:
    r"""Return the solution if a grader reads the answer from its box already, else append ``\boxed{answer}``."""
    if (extraction := extract_answer(solution)) and extraction == Extraction(answer, "boxed"):
        return solution
    return _join(strip_boxes(solution), rf"The answer is \boxed{{{answer}}}.")


def render_gsm8k(solution: str, answer: str) -> str:
    """Return the solution without boxes, then ``#### answer`` on a line of its own."""
    return _join(strip_boxes(solution), f"#### {answer}")


def render_tags(solution: str, answer: str) -> str:
    """Return the solution in ``<reasoning>`` tags and the answer in ``<answer>`` tags."""
    return f"<reasoning>\n{strip_boxes(solution)}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def _join(solution: str, ending: str) -> str:
    return f"{solution}\n{ending}" if solution else ending


ANSWER_FORMATS: dict[str, Callable[[str, str], str]] = {
    "boxed": render_boxed,
    "gsm8k": render_gsm8k,
    "tags": render_tags,
}
"""Format name → function of (solution, answer) that renders a completion."""
