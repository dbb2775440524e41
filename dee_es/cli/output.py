"""Three ways to show a listing: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, Final, Literal, TextIO

import click

from dee_es.cli.text import fitted, padded, printable, printable_lines, width
from dee_es.cli.times import iso
from dee_es.core.printing import defused

Format = Literal["json", "csv"] | None

STATUS_COLORS: Final = {
    "active": "green",
    "waiting": "cyan",
    "paused": "yellow",
    "failed": "red",
    "cancelled": "bright_black",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `least` is the width it may shrink to; 0 means that it never does."""

    title: str
    least: int = 0
    right: bool = False
    colors: Mapping[str, str] | None = None


def say(text: str = "") -> None:
    """Print a line for people."""
    sys.stdout.write(printable_lines(text) + "\n")


def colorful(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal that has them, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str | int | None]]) -> None:
    """Write aligned columns; on a terminal they shrink to its width as far as they can."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([width(column.title), *(width(row[at]) for row in cells)])
        for at, column in enumerate(columns)
    ]
    if sys.stdout.isatty():
        _shrink(widths, columns, shutil.get_terminal_size().columns)
    color = colorful(sys.stdout)
    head = _line(columns, [column.title for column in columns], widths)
    lines = [click.style(head, bold=True) if color else head]
    lines += [_line(columns, row, widths, color) for row in cells]
    sys.stdout.write("\n".join(lines) + "\n")


def _cell(value: str | int | None) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None or value == "" else printable(value)


def _line(
    columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], color: bool = False
) -> str:
    parts = []
    for column, cell, size in zip(columns, cells, widths, strict=True):
        text = padded(fitted(cell, size), size, right=column.right)
        shade = (column.colors or {}).get(cell) if color else None
        parts.append(click.style(text, fg=shade) if shade else text)
    return "  ".join(parts).rstrip()


def _shrink(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Take from the widest column, a column at a time, until the line fits."""
    over = sum(widths) + 2 * (len(widths) - 1) - room
    while over > 0:
        able = [at for at, c in enumerate(columns) if c.least and widths[at] > c.least]
        if not able:
            return
        widest = max(able, key=lambda at: widths[at])
        widths[widest] -= 1
        over -= 1


def write_fields(pairs: Iterable[tuple[str, str | int | None]]) -> None:
    """Write names and values, one pair a line."""
    shown = [(name, _cell(value)) for name, value in pairs]
    size = max(len(name) for name, _ in shown)
    sys.stdout.write("".join(f"{name:<{size}}  {value}\n" for name, value in shown))


def write_json(document: object) -> None:
    """Write one JSON document; dataclasses and times in it become JSON first."""
    # What another coding lacks would be written as an escape that JSON does not have.
    narrow = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(plain(document), ensure_ascii=narrow, indent=2)
    # Text may hold what a terminal obeys beyond the characters that JSON escapes by itself.
    sys.stdout.write(printable_lines(text) + "\n")


def write_yaml(title: str, values: Mapping[str, Any]) -> None:
    """Write a YAML file that can be published again, under a comment that says what it is."""
    import yaml

    say(f"# {title}")
    say(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100).rstrip("\n"))


def plain(value: Any) -> Any:
    """The value as JSON has it: names of fields in camelCase, times as ISO 8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {camel(f.name): plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def camel(name: str) -> str:
    """`started_at` as `startedAt`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def write_csv(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write CSV with these columns out of each row's JSON values."""
    text = io.StringIO()
    write = csv_writer(text)
    write(header)
    for row in rows:
        write([row[name] for name in header])
    sys.stdout.write(text.getvalue())


def csv_writer(stream: TextIO) -> Callable[[Sequence[object]], object]:
    """A function that writes one record, its texts made harmless for spreadsheets."""
    writer = csv.writer(stream, lineterminator="\n")
    return lambda cells: writer.writerow([defused(cell) for cell in cells])
