"""Rows of a contacts file that were not enrolled, as `dee enroll` tells them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Final, TextIO

from dee_es.cli.output import csv_writer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

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


@contextmanager
def refused_file(path: str) -> Iterator[TextIO]:
    """The file for refused rows, its owner's only if it is made here, since it tells of contacts.

    Raises `OSError` with the file's name, if it cannot be written; what has gone wrong before comes
    first.
    """
    file = TextIOWrapper(BufferedWriter(_Named(path, "w", opener=_owned)), "utf-8", newline="")
    try:
        yield file
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    file.close()


def _owned(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Named(FileIO):
    """A file whose faults say which one it is; the system does so only when it is opened."""

    def write(self, data: ReadableBuffer, /) -> int:
        """As the file does it."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self.name
            raise
