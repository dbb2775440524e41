"""Rows of a contacts file that were not enrolled, as `dee enroll` tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

from dee_es.cli.output import csv_writer

SHOWN: Final = 20
"""Rows that are not valid and shown one by one; a file given with `--errors` takes all."""
_HEADER: Final = ("line", "contactId", "reason", "detail")


@dataclass(slots=True)
class Refusals:
    """Every row that was not enrolled: counted, written, and the first invalid ones kept."""

    stream: TextIO | None = None
    counts: Counter[str] = field(default_factory=Counter)
    first: list[tuple[int | None, str]] = field(default_factory=list)
    _write: Callable[[Sequence[object]], object] | None = None

    def __post_init__(self) -> None:
        if self.stream is not None:
            self._write = csv_writer(self.stream)
            self._write(_HEADER)

    def add(self, line: int | None, contact_id: str | None, reason: str, detail: str) -> None:
        """Take note of a row. `detail` names columns and never shows their values."""
        self.counts[reason] += 1
        if reason == "invalid" and len(self.first) < SHOWN:
            self.first.append((line, detail))
        if self._write is not None:
            self._write((line, contact_id, reason, detail))
