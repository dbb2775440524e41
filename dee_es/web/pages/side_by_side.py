"""Two versions of a definition beside one another, line by line.

Lines that are there once on either side, such as ids of steps, say first what belongs together; of
what lies between them the library finds what is longest. That takes it hours where many lines look
the same, so where much lies between it is not asked.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

_AROUND: Final = 3
_ROUNDS: Final = 4
"""How often lines are looked for that are there once among those between two others."""
_MOST_PAIRS: Final = 4_000
"""Pairs of lines that the library may compare; with so many it takes some milliseconds."""
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
    i = j = 0
    for i2, j2, size in _blocks(left, right):
        for n in range(max(i2 - i, j2 - j)):
            old_line = i + n if i + n < i2 else None
            new_line = j + n if j + n < j2 else None
            found.append(_pair(left, right, old_line, new_line))
        i, j = i2 + size, j2 + size
        found += _same(left, i2, i, j2, first=not found, last=i == len(left))
    return found


def _blocks(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int, int]]:
    """What is the same, in order: where it begins on either side, and how many lines it has. Of the
    last, at the ends, there are none."""
    found: list[tuple[int, int, int]] = []
    for i, j in _same_lines(left, right, _ROUNDS):
        if found and (i, j) == (found[-1][0] + found[-1][2], found[-1][1] + found[-1][2]):
            i, j, size = found.pop()
            found.append((i, j, size + 1))
        else:
            found.append((i, j, 1))
    return [*found, (len(left), len(right), 0)]


Places = list[tuple[int, int]]
"""Where lines that are the same stand on either side, in order."""


def _same_lines(left: Sequence[str], right: Sequence[str], rounds: int) -> Places:
    shorter = min(len(left), len(right))
    head = next((n for n in range(shorter) if left[n] != right[n]), shorter)
    most = shorter - head
    tail = next((n for n in range(most) if left[-1 - n] != right[-1 - n]), most)
    inner = _between(left[head : len(left) - tail], right[head : len(right) - tail], rounds)
    return [
        *((n, n) for n in range(head)),
        *((head + i, head + j) for i, j in inner),
        *((len(left) - n, len(right) - n) for n in range(tail, 0, -1)),
    ]


def _between(left: Sequence[str], right: Sequence[str], rounds: int) -> Places:
    marks = _landmarks(left, right) if rounds else []
    if not marks:
        if len(left) * len(right) > _MOST_PAIRS:
            return []
        blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
        return [(each.a + n, each.b + n) for each in blocks for n in range(each.size)]
    found: Places = []
    i = j = 0
    for i2, j2 in marks:
        inner = _same_lines(left[i:i2], right[j:j2], rounds - 1)
        found += [*((i + a, j + b) for a, b in inner), (i2, j2)]
        i, j = i2 + 1, j2 + 1
    return found + [(i + a, j + b) for a, b in _same_lines(left[i:], right[j:], rounds - 1)]


def _landmarks(left: Sequence[str], right: Sequence[str]) -> Places:
    """The lines that are there once on either side, and of these the most that keep their order."""
    lefts, rights = Counter(left), Counter(right)
    places = {line: j for j, line in enumerate(right) if rights[line] == 1}
    pairs = [
        (i, places[line]) for i, line in enumerate(left) if lefts[line] == 1 and line in places
    ]
    # Of all rows of so many pairs, in order, the one that ends earliest on the right.
    ends: list[int] = []
    lasts: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        length = bisect_left(ends, j)
        ends[length : length + 1] = [j]
        lasts[length : length + 1] = [n]
        before.append(lasts[length - 1] if length else -1)
    found: Places = []
    n = lasts[-1] if lasts else -1
    while n >= 0:
        found.append(pairs[n])
        n = before[n]
    return found[::-1]


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
