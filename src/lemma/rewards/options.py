"""What an option of a reward may be, and how a wrong one is refused."""

import math

from lemma.types import InputError


def expect(holds: bool, key: str, rule: str, value: object) -> None:
    """Refuse a value that breaks its rule.

    Raises:
        InputError: Names the key, the rule and the value.
    """
    if not holds:
        raise InputError(f"expected `{key}` to be {rule}, but got {value!r}.")


def is_number(value: object) -> bool:
    """Return whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Return whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
