"""Decides whether two sides did the same work: same examples each step, same losses, same adapter at the end."""

from collections import Counter
from pathlib import Path
from typing import Any

from lemma.types import InputError

LOSS_TOLERANCE = {"32-true": 1e-4, "bf16-mixed": 2e-2}
"""Largest relative difference of two losses by precision."""
UPDATE_TOLERANCE = {"32-true": 0.01, "bf16-mixed": 0.5}
"""Largest norm of the difference of two trained adapters, over the norm of what training changed, by precision."""


def check_steps(lemma: dict[str, Any], reference: dict[str, Any], *, precision: str) -> float:
    """Return the largest relative difference of the losses of two records.

    Args:
        lemma: Record of ``meter.Meter``.
        reference: The other side's.
        precision: Decides the tolerance.

    Raises:
        InputError: If a step's examples, tokens or loss differ; says which step, and the numbers.
    """
    check_counts(lemma, reference, same="examples")
    largest, tolerance = 0.0, LOSS_TOLERANCE[precision]
    for step, (loss, other) in enumerate(zip(lemma["losses"], reference["losses"], strict=True)):
        difference = abs(loss - other) / abs(other)
        if not difference <= tolerance:  # NaN is no agreement
            raise InputError(
                f"the sides did different work: step {step + 1}: loss {loss:.6f} with Lemma, {other:.6f} with the "
                f"reference; they differ by {difference:.1e}, more than {tolerance:.0e}."
            )
        largest = max(largest, difference)
    return largest


def check_counts(lemma: dict[str, Any], reference: dict[str, Any], *, same: str) -> None:
    """Refuse two records whose steps are not of the same examples, or at least prompts, and of as many tokens.

    Args:
        lemma: Record of ``meter.Meter``.
        reference: The other side's.
        same: ``examples`` or ``prompts``.

    Raises:
        InputError: Says which step differs, and the numbers.
    """
    counts = len(lemma["seconds"]), len(reference["seconds"])
    if counts[0] != counts[1]:
        raise InputError(f"the sides did different work: Lemma ran {counts[0]} steps, the reference {counts[1]}.")
    for step in range(counts[0]):
        for name in ("tokens", "completion_tokens"):
            _expect_equal(step, name.replace("_", " "), lemma[name][step], reference[name][step])
        mine, theirs = Counter(lemma[same][step]), Counter(reference[same][step])
        if mine != theirs:
            raise InputError(
                f"the sides did different work: step {step + 1}: {(mine - theirs).total()} of Lemma's {mine.total()} "
                f"{same} are not among the reference's."
            )


def expect_completions(side: str, record: dict[str, Any], *, number: int, length: int) -> None:
    """Refuse a record of which a step has not so many different completions, all of them of one length.

    Args:
        side: Whose it is.
        record: Of ``meter.Meter``, an example a completion.
        number: Of completions.
        length: Tokens of each, the most that it may have.

    Raises:
        InputError: Says which step differs, and the numbers.
    """
    for step, examples in enumerate(record["examples"]):
        found, tokens = len(set(examples)), record["completion_tokens"][step]
        if (found, tokens) != (number, number * length):
            raise InputError(
                f"the sides did different work: step {step + 1}: {side} drew {found} different completions with "
                f"{tokens} tokens, instead of {number} with {number * length}."
            )


def check_greedy(lemma: dict[str, Any], reference: dict[str, Any], *, number: int, length: int) -> int:
    """Return how many tokens both sides decoded greedily, all of them alike.

    Args:
        lemma: Its ``greedy`` are the completions, a list of ids each.
        reference: The other side's.
        number: Of completions.
        length: Tokens of each.

    Raises:
        InputError: If one is missing or short, or a token differs; says which.
    """
    for side, record in (("Lemma", lemma), ("the reference", reference)):
        lengths = list(map(len, record["greedy"]))
        if lengths != [length] * number:
            raise InputError(
                f"the sides did different work: {side} decoded {len(lengths)} greedy completions with {sum(lengths)} "
                f"tokens, instead of {number} with {number * length}."
            )
    for prompt, (mine, theirs) in enumerate(zip(lemma["greedy"], reference["greedy"], strict=True), start=1):
        for place, (token, other) in enumerate(zip(mine, theirs, strict=True), start=1):
            if token != other:
                raise InputError(
                    f"the sides did different work: greedy token {place} of prompt {prompt} is {token} with Lemma, "
                    f"{other} with the reference."
                )
    return number * length


def check_adapters(start: Path, lemma: Path, reference: Path, *, precision: str) -> dict[str, float]:
    """Return how far two trained adapters are apart: the largest difference, and its norm over that of the update.

    Args:
        start: Folder of the adapter before training.
        lemma: Folder of Lemma's.
        reference: Folder of the reference's.
        precision: Decides the tolerance.

    Raises:
        InputError: If they are further apart than rounding explains, or have not the same weights.
    """
    from safetensors.torch import load_file

    before, mine, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (start, lemma, reference))
    if not before.keys() == mine.keys() == theirs.keys():
        raise InputError("the sides did different work: their adapters have different weights.")
    largest = max(float((mine[name] - theirs[name]).abs().max()) for name in mine)
    apart = sum(float((mine[name] - theirs[name]).norm() ** 2) for name in mine) ** 0.5
    update = sum(float((theirs[name] - before[name]).norm() ** 2) for name in mine) ** 0.5
    if not apart <= UPDATE_TOLERANCE[precision] * update:
        raise InputError(
            f"the sides did different work: after the last step the adapters are {apart / update:.1%} of the update "
            f"apart, more than {UPDATE_TOLERANCE[precision]:.0%}; the largest difference is {largest:.1e}."
        )
    return {"max_abs_difference": largest, "difference_over_update": apart / update}


def _expect_equal(step: int, what: str, mine: int, theirs: int) -> None:
    if mine != theirs:
        raise InputError(
            f"the sides did different work: step {step + 1}: {mine} {what} with Lemma, {theirs} with the reference."
        )
