"""The rules of a time zone as data: core reads no time zone database."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

from msgspec import Struct

from dee_es.errors import InvalidInput

_from_ms = itemgetter(0)


class ZoneRules(Struct, frozen=True):
    """UTC offsets of one zone from the first transition up to `until_ms`, which is excluded.

    `transitions` are pairs (ms since 1970 UTC, offset in seconds east of UTC from then on) in
    order of time. The first one need not be a change: it says what holds where the data begins.
    `version` names the release of the zone database they come from.
    """

    name: str
    transitions: tuple[tuple[int, int], ...]
    until_ms: int
    version: str = ""

    def covers(self, ms: int) -> bool:
        """Whether the offset at `ms` is known."""
        return bool(self.transitions) and self.transitions[0][0] <= ms < self.until_ms

    def segments(self, from_ms: int, until_ms: int) -> Iterator[tuple[int, int, int]]:
        """Stretches (begin, end, offset in ms) of one offset between two times, in order.

        What the data does not cover is left out.
        """
        begin = max(bisect_right(self.transitions, from_ms, key=_from_ms) - 1, 0)
        for place in range(begin, len(self.transitions)):
            start, offset = self.transitions[place]
            following = place + 1
            end = self.until_ms
            if following < len(self.transitions):
                end = min(end, self.transitions[following][0])
            start, end = max(start, from_ms), min(end, until_ms)
            if start < end:
                yield start, end, offset * 1000

    def text(self, from_ms: int, until_ms: int) -> str:
        """The offsets between two times as one line, such as `0+3600 1774746000000+7200 until N`.

        The line is enough to make the same decision again: see `parse`.
        """
        known = [
            f"{start}{offset // 1000:+d}" for start, _, offset in self.segments(from_ms, until_ms)
        ]
        return " ".join([*known, "until", str(min(until_ms, self.until_ms))])

    @classmethod
    def parse(cls, name: str, version: str, text: str) -> ZoneRules:
        """Rules out of a line that `text` wrote; raises `InvalidInput` for any other."""
        *known, last, until = ["", "", *text.split(" ")]
        try:
            transitions = tuple([_transition(each) for each in known if each])
            if last != "until":
                raise ValueError(last)
            return cls(name, transitions, int(until), version)
        except ValueError:
            raise InvalidInput("reads.zone.offsets", "is not a line of UTC offsets") from None


def _transition(text: str) -> tuple[int, int]:
    # The sign in front of the offset separates; a time before 1970 has one of its own.
    cut = max(text.rfind("+"), text.rfind("-"))
    return int(text[:cut]), int(text[cut:])
