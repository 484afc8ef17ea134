r"""Which of two defensible readings the grader takes, where graders differ.

What was chosen; ``/=`` marks a wrong answer. Equality is symmetric but for the rows marked *gold*.

================  ====================================================================================================
numbers           exact: ``0.5 = 1/2``, but ``0.333 /= 1/3``; ``0.\overline{3} = 1/3``. A decimal of six or more
                  significant digits equals an irrational that is within one unit in its last place.
separators        ``1,234``, ``1{,}234``, ``1 234``, ``1\,234`` and ``1.234.567`` are one number, ``1.234,56`` is
                  European, ``1.234`` a decimal; ``1, 234`` and ``3,14`` are lists; ``40 2`` is nothing.
fractions         ``1\frac{1}{2} = 3/2``; ``1/3p`` is ``(1/3)p``. ``3:4 = 3/4`` is a ratio.
percent           ``p\%`` equals ``p`` and ``p/100`` where the other side has no percent sign.
units             ignored where one side has none or one that is in no table; else compared, with conversion
                  (``1 m = 100 cm``, ``\$1.50`` is 150 cents, ``5 cm /= 5 cm^2``). ``units`` chooses otherwise.
angles            degrees are a unit: ``90^\circ = 90``, and ``= \pi/2``.
bases             ``204`` equals the gold ``204_5`` (*gold*); other subscripts differ.
names             ``x = 5`` equals ``5`` and ``f(x) = x^2`` equals ``x^2``; ``x = 5 /= y = 5``. An equation of two of
                  the coordinates x, y, z is a line and no value: ``y = x /= x``.
chains            every part must equal the gold: ``2 + 2 = 4`` is 4, ``41 = 42`` is not 42. ``\approx`` and what
                  follows it are dropped.
equations         equal if the differences of their sides are proportional, or both have the same real solutions.
inequalities      the set of numbers they describe: ``1 < x \le 5``, ``x \in (1, 5]`` and ``]1, 5]`` are equal;
                  ``x \ne 3`` is ``(-\infty, 3) \cup (3, \infty)``.
lists             roots: in any order, repetitions count; ``\pm 3`` is ``3, -3``. A list equals a set in any order and
                  a tuple in the same order. ``ordered_lists`` chooses otherwise for two lists.
tuples, vectors   in order; ``(1, 2, 3)``, ``[1, 2, 3]``, ``\langle 1, 2, 3\rangle``, a column and a row equal the
                  tuple, but a row is no column. Brackets of two entries must agree, since they may be an interval.
sets              no order, no repetitions; ``\{5\} = 5``; a set is no tuple.
matrices          entry by entry, whatever the brackets; with bars it is the determinant, a number.
choices           ``A``, ``(A)``, ``A)`` and ``(A) 12`` are equal if one side is the letter alone.
words             no case, no article, never letter by letter; ``no solution = \emptyset``, ``twelve = 12``.
times, dates      ``3:00 pm = 15:00``, ``May 5, 2020 = 2020-05-05``.
functions         equal where both are real and defined: ``\ln x^2 = 2\ln x``, ``(x^2 - 1)/(x - 1) = x + 1``; odd
                  roots of negative numbers are real. ``\log`` without a base is natural, ``\lg`` decimal.
variables         upper and lower case differ; ``i`` is the imaginary unit and ``e`` Euler's number.
================  ====================================================================================================
"""

from dataclasses import dataclass

_UNITS = ("optional", "required", "ignored")


@dataclass(frozen=True, slots=True)
class Conventions:
    """How strictly answers are compared where users differ.

    Attributes:
        ordered_lists: Whether a bare list must have the gold's order; ``3, 5`` then differs from ``5, 3``.
        units: ``optional``: compared, with conversion, where both sides have one. ``required``: a gold with a unit
            needs one in the prediction (*gold*). ``ignored``: never compared.

    Raises:
        ValueError: If ``units`` is none of the three.
    """

    ordered_lists: bool = False
    units: str = "optional"

    def __post_init__(self) -> None:
        if self.units not in _UNITS:
            raise ValueError(f"Expected `units` to be one of {', '.join(_UNITS)}, but got {self.units!r}.")


DEFAULT = Conventions()
