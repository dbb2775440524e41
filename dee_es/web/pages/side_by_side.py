"""Two versions of a definition beside one another, line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

_AROUND: Final = 3
Kind = Literal["same", "changed", "removed", "added", "gap"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the comparison: its numbers and texts, None where a side has no such line.

    `gap` stands for `skipped` lines that are the same on both sides.
    """

    kind: Kind
    left_number: int | None = None
    left: str | None = None
    right_number: int | None = None
    right: str | None = None
    skipped: int = 0


def side_by_side(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Pair]:
    """The two as JSON, with what differs and three lines around it."""
    left, right = _lines(old), _lines(new)
    found: list[Pair] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            found += _same(left, i1, i2, j1, first=not found, last=i2 == len(left))
            continue
        for n in range(max(i2 - i1, j2 - j1)):
            i = i1 + n if i1 + n < i2 else None
            j = j1 + n if j1 + n < j2 else None
            found.append(_pair(left, right, i, j))
    return found


def _lines(definition: Mapping[str, Any]) -> list[str]:
    return json.dumps(definition, indent=2, ensure_ascii=False).split("\n")


def _pair(left: Sequence[str], right: Sequence[str], i: int | None, j: int | None) -> Pair:
    kind: Kind = "added" if i is None else "removed" if j is None else "changed"
    return Pair(
        kind,
        None if i is None else i + 1,
        None if i is None else left[i],
        None if j is None else j + 1,
        None if j is None else right[j],
    )


def _same(
    lines: Sequence[str], start: int, stop: int, other: int, *, first: bool, last: bool
) -> list[Pair]:
    """Lines that are the same, without those far from any difference."""
    shift = other - start
    before = 0 if first else _AROUND
    after = 0 if last else _AROUND
    found = []
    skipped = stop - start - before - after
    for i in range(start, stop):
        if skipped > 1 and start + before <= i < stop - after:
            if i == start + before:
                found.append(Pair("gap", skipped=skipped))
            continue
        found.append(Pair("same", i + 1, lines[i], i + shift + 1, lines[i]))
    return found
