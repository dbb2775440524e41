"""What a projection is: a name, a version, a table and a pure fold, and nothing that knows SQL.

Live, catch-up and rebuild call the same `fold`, so they cannot disagree.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from dee_es.core.events import RecordedEvent


class Row(msgspec.Struct, frozen=True):
    """Base of all rows; a row's fields are its table's columns, in this order."""


RowT = TypeVar("RowT", bound=Row)
Key = str | int
ColumnKind = Literal["text", "integer", "boolean", "bytes"]
CountKey = tuple[str | int, ...]
"""What is counted: a value for each column that a table declares its counts by."""

_KINDS: dict[object, ColumnKind] = {str: "text", int: "integer", bool: "boolean", bytes: "bytes"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, kind and whether it may be empty."""

    name: str
    kind: ColumnKind
    nullable: bool


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """A projection's table, declared by the type of its rows.

    `key` names the one column that identifies a row. `indexes` are column lists, each kept because
    a query needs it. `counted` names the columns of a second table beside it that holds counts;
    empty if there is none.
    """

    name: str
    version: int
    row_type: type[RowT]
    key: str
    indexes: tuple[tuple[str, ...], ...] = ()
    counted: tuple[tuple[str, ColumnKind], ...] = ()

    @property
    def physical_name(self) -> str:
        """The name in the database: versions of one table stand side by side."""
        return f"{self.name}_v{self.version}"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in the order of the row type's fields."""
        hints = typing.get_type_hints(self.row_type)
        return tuple(_column(name, hints[name]) for name in self.row_type.__struct_fields__)


def _column(name: str, hint: object) -> Column:
    nullable = isinstance(hint, types.UnionType)
    if nullable:
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return Column(name, _KINDS[hint], nullable)


class Projection(Protocol[RowT]):
    """A named, versioned fold of the log into the rows of one table."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> Table[RowT]: ...

    @property
    def appends_only(self) -> bool:
        """Whether every event of interest makes a new row, so that no row is read first."""
        ...

    def key(self, event: RecordedEvent) -> Key | None:
        """The key of the row this event changes; None if the projection ignores the event."""
        ...

    def fold(self, row: RowT | None, event: RecordedEvent) -> RowT:
        """The row after the event; `row` is None before the first event of its key."""
        ...

    def tally(self, row: RowT) -> Iterable[CountKey]:
        """The counts this row adds one to, each as often as it does."""
        ...

    @property
    def lines(self) -> Table[Any] | None:
        """A second table that is only ever appended to, if the projection has one."""
        ...

    def line(self, row: RowT | None, event: RecordedEvent) -> Row | None:
        """What the event adds to `lines`; `row` is the row of its key after the event."""
        ...


class OneTable:
    """What a projection without counts and lines need not say itself."""

    lines: Table[Any] | None = None

    def tally(self, row: Any) -> Iterable[CountKey]:
        """Nothing is counted."""
        del row
        return ()

    def line(self, row: Any, event: RecordedEvent) -> Row | None:
        """Nothing is added."""
        del row, event
        return None
