"""Reads contacts from CSV as people export it: one contact or one refusal a record, streaming.

The file is UTF-8, with or without a byte order mark; comma, semicolon or tab separate its columns;
lines end in CRLF, CR or LF. A record that cannot be used is refused with its line and a reason, and
never stops the rest. A reason names the column and never shows its value, which is personal data.
"""

from __future__ import annotations

import io
import os
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from dee_es.core.contact import check_email, check_phone
from dee_es.core.values import JsonScalar, check_id
from dee_es.doors.cells import read_as
from dee_es.doors.contacts_header import Columns, Kind, choose_delimiter, read_header
from dee_es.errors import InvalidInput

MAX_FIELD: Final = 256 * 1024
"""Longest field, in characters; a record holding a longer one is refused."""
MAX_RECORD_LINES: Final = 2_000
"""Most physical lines one record may span; beyond it, its quote is taken for unterminated."""
MAX_RECORD: Final = 4 * MAX_FIELD
"""Most characters of one record, and of one line; this is what bounds the memory."""

_SURROGATE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class CsvContact:
    """One usable record. `line` is the physical line it starts at; the header's first is 1.

    Values are as written, without surrounding white space, but for attributes that were asked for
    as another kind; an empty cell is None, or left out of `attributes`.
    """

    line: int
    id: str | None
    email: str | None
    phone: str | None
    timezone: str | None
    attributes: dict[str, JsonScalar]


@dataclass(frozen=True, slots=True)
class CsvRefusal:
    """One record that cannot be used, with the physical line it starts at and why."""

    line: int
    reason: str


CsvRow = CsvContact | CsvRefusal


class ContactRows(Iterator[CsvRow]):
    """The rows of a file as they are asked for. `columns` is what its header says.

    Whoever stops before the end closes it, before the file that was given.
    """

    def __init__(self, rows: Generator[CsvRow | Columns, None, None]) -> None:
        self._rows = rows
        # The first step opens the file and reads the header: a bad file fails here, not later.
        columns = next(rows)
        assert isinstance(columns, Columns)
        self.columns = columns

    def __next__(self) -> CsvRow:
        row = next(self._rows)
        assert not isinstance(row, Columns)
        return row

    def close(self) -> None:
        """Close the file, unless it was given open."""
        self._rows.close()


def read_contacts(
    path_or_file: str | os.PathLike[str] | BinaryIO, kinds: Mapping[str, Kind] | None = None
) -> ContactRows:
    """Return the file's contacts and refusals in order, with memory that does not grow.

    Takes a path, or a file opened for reading bytes, which is left open. `kinds` names the columns
    whose cells are numbers, or true and false; all others hold text. Raises `InvalidInput` at once,
    naming the file and the problem, when the file as a whole cannot be used: missing, empty, no
    header, a header named twice, columns separated by something else, no column for an id, an
    e-mail address or a phone number, or none for one of `kinds`.
    """
    return ContactRows(_read(path_or_file, kinds))


def _read(
    path_or_file: str | os.PathLike[str] | BinaryIO, kinds: Mapping[str, Kind] | None
) -> Generator[CsvRow | Columns, None, None]:
    with _open(path_or_file) as (name, stream):
        lines = _Lines(stream)
        columns = _header(lines, f"contacts file {name}", kinds)
        yield columns
        for record in _records(lines, columns.delimiter, len(columns.titles)):
            if isinstance(record, CsvRefusal):
                yield record
            elif any(cell and not cell.isspace() for cell in record.cells):
                yield _contact(record, columns)


@contextmanager
def _open(
    path_or_file: str | os.PathLike[str] | BinaryIO,
) -> Iterator[tuple[str, io.TextIOWrapper]]:
    """Give the file's name and its text, in which a byte that is not UTF-8 is a lone surrogate."""
    if not isinstance(path_or_file, (str, os.PathLike)):
        name = getattr(path_or_file, "name", None)
        stream = _text(path_or_file)
        try:
            yield (name if isinstance(name, str) else "(stream)"), stream
        finally:
            stream.detach()
        return
    name = os.fspath(path_or_file)
    try:
        stream = _text(open(name, "rb"))  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(f"contacts file {name}", f"cannot be read: {error.strerror}") from error
    with stream:
        yield name, stream


def _text(stream: BinaryIO) -> io.TextIOWrapper:
    # newline="" knows all three line ends and leaves them as they are.
    return io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")


class _Lines:
    """The physical lines of a text, numbered from 1, which can be given back and read again."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._number = 0
        self._again: deque[tuple[int, str]] = deque()

    def next(self) -> tuple[int, str] | None:
        """Return the next line's number and text with its line end, or None at the end."""
        if self._again:
            return self._again.popleft()
        text = self._stream.readline(MAX_RECORD)
        if not text:
            return None
        self._number += 1
        if len(text) == MAX_RECORD:
            self._skip_rest(text)
        return self._number, text

    def give_back(self, lines: list[tuple[int, str]]) -> None:
        """Put lines back, to be read again in the same order."""
        self._again.extendleft(reversed(lines))

    def _skip_rest(self, text: str) -> None:
        """Drop what is left of a line that is longer than any that can be used."""
        while len(text) == MAX_RECORD and text[-1] not in "\r\n":
            text = self._stream.readline(MAX_RECORD)


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of one record, and the physical lines it starts and ends at."""

    line: int
    last_line: int
    cells: list[str]


class _Malformed(Exception):
    """The record's quotes do not fit; `str()` of it is the reason."""


def _header(lines: _Lines, file: str, kinds: Mapping[str, Kind] | None) -> Columns:
    """Read the first record that is not blank; raise `InvalidInput` if it is no usable header."""
    first = lines.next()
    while first is not None and not first[1].strip("\ufeff \t\r\n"):
        first = lines.next()
    if first is None:
        raise InvalidInput(file, "is empty; the first line has to name the columns")
    number, text = first
    # Only the very first line may start with the mark; elsewhere it would be part of a value.
    text = text.removeprefix("\ufeff")
    delimiter = choose_delimiter(text, file)
    try:
        record = _RecordReader(lines, delimiter, number, MAX_RECORD).read(text)
    except _Malformed as problem:
        raise InvalidInput(file, f"has a header that cannot be read: {problem}") from None
    return read_header(record.cells, file, kinds, delimiter)


def _records(lines: _Lines, delimiter: str, width: int) -> Iterator[_Record | CsvRefusal]:
    # So many columns are no slip but quotes gone wrong: without an end to it, a file in which they
    # are wrong on every line would be read thousands of lines ahead for each of them.
    most_cells = 2 * width + 16
    while (first := lines.next()) is not None:
        number, text = first
        if '"' not in text and len(text) <= MAX_FIELD:
            # By far the most frequent case, and the only one that costs one call.
            yield _Record(number, number, text.rstrip("\r\n").split(delimiter))
            continue
        reader = _RecordReader(lines, delimiter, number, most_cells)
        try:
            yield reader.read(text)
        except _Malformed as problem:
            # A stray quote takes only its own line with it: what it swallowed is read again.
            lines.give_back(reader.taken)
            yield CsvRefusal(number, str(problem))


class _RecordReader:
    """Reads one record that may hold quotes, taking further lines while a quote is open.

    The csv module is not used: it has no memory of where a quote was opened, reads on to the end of
    the file for one that is never closed, and keeps its field limit in a global of the process.
    """

    def __init__(self, lines: _Lines, delimiter: str, number: int, most_cells: int) -> None:
        self._lines = lines
        self._most_cells = most_cells
        self._delimiter = delimiter
        self._first = self._number = number
        self._text, self._at, self._size = "", 0, 0
        self.taken: list[tuple[int, str]] = []
        """The lines taken after the record's first."""

    def read(self, text: str) -> _Record:
        """Return the record that starts with the line `text`; raise `_Malformed`."""
        self._start(text)
        cells: list[str] = []
        while True:
            while self._text.startswith(" ", self._at):
                self._at += 1
            quoted = self._text.startswith('"', self._at)
            cell = self._quoted(len(cells) + 1) if quoted else self._plain()
            if len(cell) > MAX_FIELD:
                raise _Malformed(f"column {len(cells) + 1} is longer than {MAX_FIELD} characters")
            cells.append(cell)
            if len(cells) > self._most_cells:
                raise _Malformed(f"the record has more than {self._most_cells} columns")
            if not self._text.startswith(self._delimiter, self._at):
                return _Record(self._first, self._number, cells)
            self._at += 1

    def _plain(self) -> str:
        """Take a field without quotes; a quote inside it stands for itself, as in 6" pipe."""
        end = self._text.find(self._delimiter, self._at)
        if end < 0:
            end = len(self._text.rstrip("\r\n"))
        cell = self._text[self._at : end]
        self._at = end
        return cell

    def _quoted(self, column: int) -> str:
        """Take a quoted field, which may go on over further lines; "" inside it is one quote."""
        opened, size = self._number, 0
        pieces: list[str] = []
        self._at += 1
        while True:
            end = self._text.find('"', self._at)
            piece = self._text[self._at :] if end < 0 else self._text[self._at : end]
            pieces.append(piece)
            size += len(piece)
            if size > MAX_FIELD:
                raise _Malformed(
                    f"the quote opened in column {column} on line {opened} "
                    f"is not closed within {MAX_FIELD} characters"
                )
            if end < 0:
                self._next_line(column, opened)
            elif self._text.startswith('"', end + 1):
                pieces.append('"')
                self._at = end + 2
            else:
                self._close(end + 1, column, opened)
                return "".join(pieces)

    def _next_line(self, column: int, opened: int) -> None:
        line = self._lines.next() if len(self.taken) < MAX_RECORD_LINES - 1 else None
        if line is None:
            raise _Malformed(f"the quote opened in column {column} on line {opened} is not closed")
        self.taken.append(line)
        self._number = line[0]
        self._start(line[1])

    def _start(self, text: str) -> None:
        self._text, self._at = text, 0
        self._size += len(text)
        if self._size >= MAX_RECORD:
            raise _Malformed(f"the record is longer than {MAX_RECORD} characters")

    def _close(self, at: int, column: int, opened: int) -> None:
        while self._text.startswith(" ", at):
            at += 1
        if at < len(self._text) and self._text[at] not in (self._delimiter, "\r", "\n"):
            raise _Malformed(
                f"the quote opened in column {column} on line {opened} "
                "is followed by text after it closes"
            )
        self._at = at


def _contact(record: _Record, columns: Columns) -> CsvRow:
    try:
        return _checked(record, columns)
    except InvalidInput as error:
        return CsvRefusal(record.line, str(error))


def _checked(record: _Record, columns: Columns) -> CsvContact:
    """Make a contact of the record's cells; raise `InvalidInput` naming the column at fault."""
    cells = _fitted(record, columns)
    for title, cell in zip(columns.titles, cells, strict=False):
        if "\0" in cell:
            raise InvalidInput(title, "holds a NUL byte")
        if not cell.isascii() and _SURROGATE.search(cell):
            raise InvalidInput(title, "holds bytes that are not UTF-8")

    def value(index: int | None, check: Callable[[str, object], str] | None = None) -> str | None:
        if index is None or not (text := cells[index].strip()):
            return None
        return check(columns.titles[index], text) if check else text

    contact = CsvContact(
        line=record.line,
        id=value(columns.id, check_id),
        email=value(columns.email, check_email),
        phone=value(columns.phone, check_phone),
        timezone=value(columns.timezone),
        attributes={
            name: text if kind is None else read_as(kind, columns.titles[at], text)
            for name, at, kind in columns.attributes
            if (text := cells[at].strip())
        },
    )
    if contact.id is None and contact.email is None and contact.phone is None:
        raise InvalidInput("record", "has neither an id nor an e-mail address nor a phone number")
    return contact


def _fitted(record: _Record, columns: Columns) -> list[str]:
    """Return the record's cells, at least one for each column up to the last with a name, and none
    beyond the header; or raise `InvalidInput`.

    Cells beyond the header are forgiven when they are empty, and so is a short record that lacks
    only columns without a name: both are what spreadsheets leave of empty cells. Any other missing
    cell may be a cut record.

    A record costs what it holds: one line may name hundreds of thousands of columns, and millions
    of short ones may follow it.
    """
    cells, width = record.cells, len(columns.titles)
    where = (
        f"on lines {record.line} to {record.last_line} " if record.last_line > record.line else ""
    )
    named = columns.named_width
    if len(cells) < named:
        raise InvalidInput("record", f"{where}has {len(cells)} of {named} columns")
    if any(cell.strip() for cell in cells[named:]) and len(cells) > width:
        raise InvalidInput("record", f"{where}has {len(cells)} columns instead of {width}")
    for index in columns.nameless[: bisect_left(columns.nameless, len(cells))]:
        if cells[index].strip():
            raise InvalidInput(columns.titles[index], "has a value but no name in the header")
    return cells[:width]
