"""One that is at fault holds up none of the others; what is wrong with all is told at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dee_es.engine.bisecting import bisected
from dee_es.errors import DeeError, InvalidInput, StoreUnavailable


@pytest.mark.parametrize("bad", [set(), {0}, {6}, {2, 3}, set(range(7))])
def test_all_but_those_at_fault_are_worked_on_in_order(bad: set[int]) -> None:
    given_up: dict[int, InvalidInput] = {}

    def work(part: Sequence[int]) -> list[int]:
        if bad & set(part):
            raise InvalidInput("item", "it is bad")
        return list(part)

    parts = bisected(range(7), work, given_up.__setitem__, InvalidInput)
    assert [each for part in parts for each in part] == [n for n in range(7) if n not in bad]
    assert sorted(given_up) == sorted(bad)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("a fault of ours")])
def test_what_is_none_of_their_faults_is_raised(error: Exception) -> None:
    tried: list[Sequence[int]] = []

    def work(part: Sequence[int]) -> None:
        tried.append(part)
        raise error

    with pytest.raises(type(error)):
        bisected(range(7), work, lambda *_: None, DeeError)
    assert tried == [range(7)]


def test_nobody_is_given_up_where_there_is_nobody() -> None:
    def work(_: Sequence[int]) -> None:
        raise InvalidInput("item", "it is bad")

    assert bisected([], work, lambda *_: pytest.fail("there is nobody"), InvalidInput) == []
