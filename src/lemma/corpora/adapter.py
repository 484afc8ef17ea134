"""What an adapter is: how one native format's rows become problems or pairs, and where the hub keeps that data set."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lemma.corpora.pairing import Pairing
from lemma.corpora.rows import BadRow, Row
from lemma.types import Problem


@dataclass(frozen=True)
class Adapter:
    """One native format. To add one, write a file like ``gsm8k.py`` and give it a line in ``registry.ADAPTERS``.

    It has ``to_problem`` or ``to_preferences``, not both.
    """

    to_problem: Callable[[Row, str], Problem] | None = None
    """Function of (row, source) → problem; raises ``InputError`` naming key and value, the loader adds the place.

    Where a format has no topics but says which part of the collection a row is from, that part is the subject, so that
    ``where`` can choose by it.
    """
    to_preferences: Callable[[Row, str, int], Pairing] | None = None
    """Function of (row, source, most pairs of a row) → its pairs; raises as ``to_problem`` does."""
    graded: bool = False
    """Whether a row is a problem with graded completions, of which as many pairs are made as one asks for."""
    gather: Callable[[Callable[[], Iterable[Row | BadRow]]], Iterator[Row | BadRow]] | None = None
    """Function of (what reads all rows, which may be called twice) → rows, where several of a file can be one."""
    hub: str | None = None
    """Hub name that is read where no path is given, or None if a path must be."""
    subsets: tuple[str | None, ...] = (None,)
    """Configurations of ``hub``, read one after the other where no subset is given."""
    licence: str | None = None
    """Licence under which the data set is published, None where it is not known."""
