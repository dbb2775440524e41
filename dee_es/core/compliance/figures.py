"""Figures of a compliance report: each a number together with the very entries it counts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, field


class Positions:
    """Positions of entries in the log, eight bytes each, in whatever order they come."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found = array("Q")

    def add(self, position: int) -> None:
        """Take in a position; the same one may come again and counts once."""
        self._found.append(position)

    def ranges(self) -> Ranges:
        """All of them as ranges, in order."""
        ranges = array("Q")
        for position in sorted(self._found):
            if ranges and position <= ranges[-1] + 1:
                ranges[-1] = position
            else:
                ranges.extend((position, position))
        return Ranges(ranges)


class Ranges:
    """Positions as pairs (first, last), in order; neighbours are in one pair."""

    __slots__ = ("_bounds",)

    def __init__(self, bounds: array[int] | None = None) -> None:
        self._bounds = array("Q") if bounds is None else bounds

    def __iter__(self) -> Iterator[tuple[int, int]]:
        bounds = iter(self._bounds)
        return zip(bounds, bounds, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._bounds == other._bounds

    def __hash__(self) -> int:
        return hash(self._bounds.tobytes())

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __repr__(self) -> str:
        return f"Ranges({self.text()})"

    @property
    def count(self) -> int:
        """How many positions there are in all ranges."""
        return sum(last - first + 1 for first, last in self)

    def positions(self) -> Iterator[int]:
        """Each position."""
        for first, last in self:
            yield from range(first, last + 1)

    def text(self) -> str:
        """For people and for `dee audit log --position`: `3, 7-9`."""
        return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in self)


class Figure(Struct, frozen=True):
    """One number.

    `value` is None if there was nothing to measure, and `not_measured` says why. In the unit
    `entries` the value is the number of the positions in `entries`; in `seconds` it is a time, and
    `entries` are those that took it. `evidence` are other entries that the number rests on.
    `must_be_zero` marks what has to be looked into if it is anything else.
    """

    key: str
    group: str
    label: str
    value: int | None
    entries: Ranges = field(default_factory=Ranges)
    evidence: Ranges = field(default_factory=Ranges)
    unit: Literal["entries", "seconds"] = "entries"
    not_measured: str | None = None
    must_be_zero: bool = False

    @property
    def violated(self) -> bool:
        """Whether it has to be looked into."""
        return self.must_be_zero and bool(self.value)


class Section(Struct, frozen=True):
    """A part of the report; `explains` says how it was counted, in sentences for people. Without
    anything to measure it has no figures, and `not_measured` says why."""

    key: str
    title: str
    explains: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    not_measured: str | None = None


class Tally:
    """Entries by group and key, as they are counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[Positions, Positions]] = {}

    def add(self, group: str, key: str, position: int, evidence: int | None = None) -> None:
        """Count an entry; `evidence` is another one that this rests on."""
        entries, others = self._found.setdefault((group, key), (Positions(), Positions()))
        entries.add(position)
        if evidence is not None:
            others.add(evidence)

    def has(self, group: str, *keys: str) -> bool:
        """Whether anything was counted in the group under one of these keys."""
        return any((group, key) in self._found for key in keys)

    def groups(self) -> list[str]:
        """The groups in which anything was counted, by name."""
        return sorted({group for group, _ in self._found})

    def keys(self, group: str, prefix: str) -> list[str]:
        """The keys of a group that begin so, by name."""
        found = [key for of, key in self._found if of == group and key.startswith(prefix)]
        return sorted(found)

    def figure(
        self,
        group: str,
        key: str,
        label: str,
        *,
        not_measured: str | None = None,
        must_be_zero: bool = False,
    ) -> Figure:
        """What was counted under the key; nothing, if `not_measured` says why."""
        if not_measured is not None:
            return Figure(key, group, label, None, not_measured=not_measured)
        found = self._found.get((group, key))
        entries = found[0].ranges() if found else Ranges()
        evidence = found[1].ranges() if found else Ranges()
        return Figure(
            key, group, label, entries.count, entries, evidence, must_be_zero=must_be_zero
        )
