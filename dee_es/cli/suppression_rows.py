"""Lists of people not to be contacted, as they come from outside: CSV, or one of them a line."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import BinaryIO, Final

from dee_es.core.contact import check_email, check_phone
from dee_es.core.values import check_id
from dee_es.doors.contacts_csv import CsvContact, CsvRow, read_contacts
from dee_es.doors.contacts_header import choose_delimiter, read_header
from dee_es.engine.models import ImportResult, SuppressionEntry
from dee_es.errors import DeeError, InvalidInput

SHOWN: Final = 20
"""Lines that cannot be used and are shown one by one."""
_MAX_LINE: Final = 4096
_DELIMITERS: Final = ",;\t"
# A byte order mark is nothing to see either.
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"

NumberedEntry = tuple[int, SuppressionEntry | str]
"""A line's number, and its entry or what is wrong with it; that never shows a value."""


def read_entries(stream: io.BufferedReader, name: str) -> Generator[NumberedEntry, None, None]:
    """The entries of a list in order, with memory that does not grow; blank lines are left out.

    A list whose first line names columns is CSV: `email`, `phone` and `contact_id` say who is
    meant, `level`, `scope` and `reason` are optional, any other column is ignored. Else each line
    is an e-mail address, a telephone number or a contact's id; what is made of digits is a number.

    Raises `InvalidInput`, naming the file, if it has columns that nobody named.
    """
    head = b""
    while not head.strip(_BLANK):
        line = stream.readline(_MAX_LINE)
        if not line:
            return _nothing()
        head += line
    whole = io.BufferedReader(_Rejoined(head, stream, name))
    # A line may end in CR alone; then the head may hold further ones.
    first = head.decode("utf-8", "surrogateescape").lstrip("\ufeff \t\r\n").split("\r")[0].strip()
    return _from_csv(whole) if _is_header(first, f"list {name}") else _from_lines(whole)


def _nothing() -> Generator[NumberedEntry, None, None]:
    """A list without entries."""
    yield from ()


def _is_header(line: str, file: str) -> bool:
    cells = [cell.strip().strip('"') for cell in line.split(choose_delimiter(line, file))]
    try:
        read_header(cells, file)
    except InvalidInput:
        if any(delimiter in line for delimiter in _DELIMITERS):
            raise
        return False
    return True


class _Rejoined(io.RawIOBase):
    """A stream of which a beginning was read already, from that beginning on."""

    def __init__(self, head: bytes, rest: io.BufferedReader, name: str) -> None:
        super().__init__()
        self._head = head
        self._rest = rest
        self.name = name

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as there is anything."""
        if self._head:
            chunk, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            chunk = self._rest.read1(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _from_csv(stream: BinaryIO) -> Generator[NumberedEntry, None, None]:
    with closing(read_contacts(stream)) as rows:
        for row in rows:
            yield row.line, _entry(row)


def _entry(row: CsvRow) -> SuppressionEntry | str:
    if not isinstance(row, CsvContact):
        return row.reason
    given = {name: str(value) for name, value in row.attributes.items()}
    level = given.get("level")
    return SuppressionEntry(
        row.id,
        row.email,
        row.phone,
        level.lower() if level else None,
        given.get("scope"),
        given.get("reason"),
    )


def _from_lines(stream: BinaryIO) -> Generator[NumberedEntry, None, None]:
    for number, line in enumerate(_lines(stream), start=1):
        if len(line) > _MAX_LINE:
            yield number, f"line: is longer than {_MAX_LINE} bytes"
        elif line.strip(_BLANK):
            yield number, _named_by(line)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines, however they end; of one that is too long no more than shows that it is."""
    # Only to find the ends, which are the same bytes in UTF-8: all three of them are read as \n.
    text = io.TextIOWrapper(stream, encoding="latin-1", newline=None)
    try:
        while line := text.readline(_MAX_LINE + 1):
            rest = line
            while len(rest) > _MAX_LINE and not rest.endswith("\n"):
                rest = text.readline(_MAX_LINE + 1)
            yield line.encode("latin-1")
    finally:
        text.detach()


def _named_by(line: bytes) -> SuppressionEntry | str:
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "line: is not UTF-8 text"
    try:
        if "@" in text:
            return SuppressionEntry(email=check_email("email", text))
        try:
            return SuppressionEntry(phone=check_phone("phone", text))
        except InvalidInput:
            return SuppressionEntry(contact_id=check_id("contact_id", text))
    except InvalidInput as error:
        if error.field == "email":
            return str(error)
        return "line: is no e-mail address, no telephone number and no contact's id"


class Intake:
    """Gives a list's entries to the engine, and keeps account of the lines they came from."""

    def __init__(self, rows: Iterable[NumberedEntry]) -> None:
        self._rows = rows
        self._lines: dict[int, int] = {}
        self._given = 0
        self._settled = 0
        self.lines = 0
        """Lines read so far that were not blank."""
        self.errors = 0
        """Lines that cannot be used, whether the engine saw them or not."""
        self._first: list[tuple[int, str]] = []

    @property
    def first(self) -> list[tuple[int, str]]:
        """The first lines that cannot be used, with what is wrong with them."""
        return sorted(self._first)

    def entries(self) -> Iterator[SuppressionEntry]:
        """The entries of the lines that can be read."""
        for line, entry in self._rows:
            self.lines += 1
            if isinstance(entry, str):
                self._refuse(line, entry)
                continue
            self._lines[self._given] = line
            self._given += 1
            yield entry

    def on_error(self, number: int, error: DeeError) -> None:
        """Take note of an entry that the engine refused."""
        self._refuse(self._lines[number], str(error))

    def on_progress(self, result: ImportResult) -> None:
        """Forget the lines of entries that are dealt with."""
        for number in range(self._settled, result.done):
            del self._lines[number]
        self._settled = result.done

    def _refuse(self, line: int, problem: str) -> None:
        self.errors += 1
        if len(self._first) < SHOWN:
            self._first.append((line, problem))
