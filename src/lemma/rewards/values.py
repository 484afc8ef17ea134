"""What counts as the value of a reward, and how the others fail."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple


class Failed(NamedTuple):
    """Why there is no value.

    Attributes:
        kind: ``raised``, ``timed_out``, ``died`` (the process ended), ``wrong_length``, ``not_a_number``,
            ``not_finite`` or ``not_tried``.
        message: One line that says more.
    """

    kind: str
    message: str


Value = float | None | Failed


def values_of(returned: Any, size: int) -> list[Value] | Failed:
    """Return what a reward function returned as one value a completion, or how it is wrong as a whole.

    Args:
        returned: A list, or what can be made one (an array, a tensor on the CPU).
        size: The number of completions.
    """
    if isinstance(returned, str | bytes | Mapping) or not hasattr(returned, "__iter__"):
        return Failed("wrong_length", f"it returned a {type(returned).__name__}, not a list of {size} values")
    values = list(returned)
    if len(values) != size:
        return Failed("wrong_length", f"it returned {len(values)} values for {size} completions")
    return [value_of(value) for value in values]


def value_of(value: Any) -> Value:
    """Return a number as a float and None as it is; truth values and numbers of NumPy and PyTorch are numbers."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if value is None:
        return None
    if not isinstance(value, Real):
        return Failed("not_a_number", f"expected a number or None, but got {value!r:.100}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return number if math.isfinite(number) else Failed("not_finite", f"expected a finite number, but got {number}")
