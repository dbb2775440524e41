"""Work on many at once in which what is wrong with one holds up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from dee_es.errors import ConcurrencyConflict, DeeError, MasterKeyRotated, StoreUnavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
ErrorT = TypeVar("ErrorT", bound=Exception)

_WRONG_WITH_ALL: Final[tuple[type[DeeError], ...]] = (
    ConcurrencyConflict,
    MasterKeyRotated,
    StoreUnavailable,
)


def bisected(
    items: Sequence[ItemT],
    work: Callable[[Sequence[ItemT]], ResultT],
    give_up: Callable[[ItemT, ErrorT], object],
    caught: type[ErrorT],
) -> list[ResultT]:
    """What the work makes of them, in parts: of all at once, or of each half by itself where that
    fails, and so on; `give_up` is told of each one for which it fails alone, and why.

    Raises what is no `caught`, and what is wrong with none of them in particular.
    """
    try:
        return [work(items)]
    except _WRONG_WITH_ALL:
        raise
    except caught as error:
        if len(items) <= 1:
            for item in items:
                give_up(item, error)
            return []
    half = len(items) // 2
    parts = (items[:half], items[half:])
    return [result for part in parts for result in bisected(part, work, give_up, caught)]
