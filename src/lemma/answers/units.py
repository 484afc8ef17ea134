r"""What a quantity is measured in, and how many of one unit make another.

In a normal form a unit stands behind its value as ``\text{cm}^2``, a percent sign as ``\%``, degrees as ``^\circ`` and
money as ``\text{dollars}``. A unit that is in no table (``17\text{ apples}``) is compared with no other.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lemma.answers.numbers import as_rational

PERCENT = "percent"
DEGREES = "degree"

_TABLE = {
    "length": "mm=1/1000 cm=1/100 dm=1/10 m=1 km=1000 in=127/5000 ft=381/1250 yd=1143/1250 mi=201168/125",
    "mass": "mg=1/1000 g=1 kg=1000 oz=45359237/1600000 lb=45359237/100000 tonne=1000000",
    "time": "ms=1/1000 s=1 min=60 h=3600 day=86400 week=604800",
    "calendar": "month=1 year=12",
    "volume": "ml=1/1000 cl=1/100 l=1",
    "gallon": "gal=1",
    "dollar": "dollar=1 cent=1/100",
    "euro": "euro=1",
    "pound sterling": "gbp=1",
    "yen": "yen=1",
    "rupee": "rupee=1",
    DEGREES: "degree=1 arcmin=1/60 arcsec=1/3600",
    "radian": "radian=1",
    "Celsius": "celsius=1",
    "Fahrenheit": "fahrenheit=1",
    "force": "n=1 kn=1000",
    "energy": "j=1 kj=1000",
    "power": "w=1 kw=1000",
    PERCENT: "percent=1",
    "": "dozen=12 hundred=100 thousand=1000 million=1000000 billion=1000000000 trillion=1000000000000",
}
_NAMES = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "dm": "decimeter decimetre", "m": "meter metre",
    "km": "kilometer kilometre", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "mg": "milligram",
    "g": "gram", "kg": "kilogram", "oz": "ounce", "lb": "pound lbs", "tonne": "ton", "ms": "millisecond",
    "s": "second sec secs", "min": "minute mins", "h": "hour hr hrs", "day": "day", "week": "week wk", "month": "month",
    "year": "year yr yrs", "ml": "milliliter millilitre", "l": "liter litre", "gal": "gallon", "dollar": "usd buck",
    "cent": "cent", "euro": "eur", "rupee": "inr", "degree": "deg", "arcmin": "arcminute", "arcsec": "arcsecond",
    "radian": "rad", "percent": "pct percentage", "n": "newton", "j": "joule", "w": "watt",
}  # fmt: skip
# Words that are taken for units without \text around them.
_BARE = [name for key, names in _NAMES.items() for name in [key, *names.split()] if len(name) > 1 and name != "in"]
BARE_UNIT = (
    r"(?:(?:square|sq\.?|cubic|cu\.?) )?(?:"
    + "|".join(sorted({word + s for word in _BARE for s in ("", "s")} | {"mph", "dozen"}, key=len, reverse=True))
    + "|units?|points?|people|students?|million|billion|trillion|thousand|hundred)"
)
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_TOKEN = re.compile(r"[a-zA-Z]+|\^\{?(-?[0-9])\}?|/|[^ ]")
_LETTER = re.compile(r"[0-9.]+[a-zA-Z]")
_UNITS_ONLY = re.compile(r"(?:\\text\{[^{}]*\}(?:\^\{?-?[0-9]\}?)?[ */]?)+(?:per [a-z ]+)?")
_PAIR = re.compile(r"([0-9]+(?:\.[0-9]+)?)\\text\{([a-zA-Z ]+)\}(?:(?:, )?\s*and\s*|, )?")
_TRIGONOMETRIC = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)")
_ARC = re.compile(r"(-?)([0-9.]+)\^\\circ(?: ?([0-9.]+)'(?!'))?(?: ?([0-9.]+)'')?")


class Unit(NamedTuple):
    """A unit: powers of base units, and how many base units it is; ``known`` is False for what is in no table."""

    dimension: frozenset[tuple[str, int]]
    factor: Fraction
    known: bool = True
    scale: Fraction = Fraction(1)  # of "million"

    @property
    def is_percent(self) -> bool:
        return self.dimension == frozenset({(PERCENT, 1)})

    @property
    def is_degrees(self) -> bool:
        return self.dimension == frozenset({(DEGREES, 1)})


def split_unit(form: str) -> tuple[str, Unit | None]:
    r"""Return a normal form's value and its unit, None where it has none.

    Mixed units become one: ``5\text{feet}6\text{inches}`` is 66 inches; ``12^\circ30'`` is 12.5 degrees.

    Args:
        form: A normal form of a single value.
    """
    if form.endswith(r"\%"):
        return form[:-2].strip(), _unit(PERCENT)
    if form.endswith("'") or form.endswith(r"^\circ"):
        if match := _ARC.fullmatch(form):
            try:
                parts = [Fraction(part or 0) for part in match.groups()[1:]]
            except ValueError:
                return form, None
            return f"{match[1]}{parts[0] + parts[1] / 60 + parts[2] / 3600}", _unit("degree")
        if form.endswith("'") or _TRIGONOMETRIC.search(form):
            return form, None
        return form[: -len(r"^\circ")], _unit(DEGREES)
    start = form.find(r"\text{")
    if start <= 0 or not _UNITS_ONLY.fullmatch(form, start):
        return _sum_of_pairs(form) or (form, None)
    value, unit = form[:start].strip(), _unit(form[start:])
    if unit.scale != 1:
        value = f"({value})*({unit.scale})" if (number := as_rational(value)) is None else str(number * unit.scale)
    return value, unit if unit.dimension else None


def _sum_of_pairs(form: str) -> tuple[str, Unit] | None:
    """Add up ``5\\text{feet}6\\text{inches}``, in the first of the units."""
    pairs = _PAIR.findall(form)
    if len(pairs) < 2 or _PAIR.sub("", form):
        return None
    units = [_unit(name) for _, name in pairs]
    if not all(unit.known and unit.dimension == units[0].dimension for unit in units):
        return None
    total = sum(Fraction(value) * unit.factor for (value, _), unit in zip(pairs, units, strict=True))
    return str(total / units[0].factor), units[0]


def split_letter(form: str, other: Unit) -> tuple[str, Unit | None]:
    """Split off a last letter (``1m``) that is a unit of the same kind as the other side's; else it is a variable."""
    if _LETTER.fullmatch(form) and (unit := _unit(form[-1])).known and unit.dimension == other.dimension:
        return form[:-1], unit
    return form, None


@lru_cache(maxsize=1024)
def _unit(text: str) -> Unit:
    r"""Read a unit: ``\text{cm}^2``, ``\text{square feet}``, ``\text{km}/\text{h}``, ``\text{miles per hour}``."""
    plain = text.replace(r"\text{", " ").replace(r"\%", "percent").lower()
    plain = re.sub(r"\}(?!\^)|(?<!\^)\{", " ", re.sub(r"\}\^", "^", plain))
    plain = plain.replace("mph", "miles/hour").replace(" per ", "/").replace(" an hour", "/hour")
    dimension: dict[str, int] = {}
    factor, scale, sign, prefix, last = Fraction(1), Fraction(1), 1, 1, None
    for match in _TOKEN.finditer(plain):
        token = match[0]
        if token == "/":
            sign = -1
        elif token in _POWERS:
            prefix = _POWERS[token]
        elif token in ("squared", "cubed") or match[1]:
            power = int(match[1]) if match[1] else {"squared": 2, "cubed": 3}[token]
            if last is None:
                return _unknown(text, scale)
            base, size, direction = last
            dimension[base] = dimension.get(base, 0) + direction * (power - 1)
            factor *= size ** (direction * (power - 1))
        elif token in _UNITS:
            base, size = _UNITS[token]
            if not base:
                scale *= size
                last = last or (base, Fraction(1), sign)
                continue
            dimension[base] = dimension.get(base, 0) + sign * prefix
            factor *= size ** (sign * prefix)
            last, prefix = (base, size, sign), 1
        elif token not in (".", "}", "{", "*", "of"):
            return _unknown(text, scale)
    if not last:
        return _unknown(text, scale)
    return Unit(frozenset((base, power) for base, power in dimension.items() if base and power), factor, scale=scale)


def _unknown(text: str, scale: Fraction) -> Unit:
    return Unit(frozenset({(text.lower(), 1)}), Fraction(1), known=False, scale=scale)


def is_unit_word(word: str) -> bool:
    """Return whether a word names a unit of the table."""
    return word.lower() in _UNITS


def _read_table() -> dict[str, tuple[str, Fraction]]:
    units = {}
    for base, entries in _TABLE.items():
        for entry in entries.split():
            name, factor = entry.split("=")
            for spelling in [name, *_NAMES.get(name, "").split()]:
                units[spelling] = units[f"{spelling}s"] = (base, Fraction(factor))
    return units


_UNITS = _read_table()
