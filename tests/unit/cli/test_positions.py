"""Positions of the log as they are written on the command line."""

from __future__ import annotations

import click
import pytest

from dee_es.cli.options import position_ranges


@pytest.mark.parametrize(
    "text, expected",
    [("7", [(7, 7)]), ("7-9", [(7, 9)]), ("3, 7-9,11", [(3, 3), (7, 9), (11, 11)])],
)
def test_positions_and_ranges(text: str, expected: list[tuple[int, int]]) -> None:
    assert position_ranges(text) == expected


@pytest.mark.parametrize("text", ["", "x", "7-", "-7", "3,,4", "1-2-3", "٣", "1.5", "9-7", "0"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no position or range such as 7 or 7-9"):
        position_ranges(text)
