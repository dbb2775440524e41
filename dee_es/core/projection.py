"""What a projection is: a name, a version, a table and a pure fold, and nothing that knows SQL.

Live, catch-up and rebuild call the same `fold`, so they cannot disagree.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from dee_es.core.events import RecordedEvent


class Row(msgspec.Struct, frozen=True, gc=False):
    """Base of all rows; a row's fields are its table's columns, in this order."""


RowT = TypeVar("RowT", bound=Row)
Key = str | int
ColumnKind = Literal["text", "integer", "boolean", "bytes"]
CountKey = tuple[str | int, ...]
"""What is counted: a value for each column that a table declares its counts by."""

_KINDS: dict[object, ColumnKind] = {str: "text", int: "integer", bool: "boolean", bytes: "bytes"}


class Column(msgspec.Struct, frozen=True):
    """One column: its name, kind and whether it may be empty."""

    name: str
    kind: ColumnKind
    nullable: bool


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """A projection's table, declared by the type of its rows.

    `key` names the one column that identifies a row. `indexes` are column lists, each kept because
    a query needs it. `counted` names the columns of a second table beside it that holds counts;
    empty if there is none. `lacks` names fields of the row type that this version has no column
    for: they are read as their defaults. `build` tells copies of one version apart.

    `stretch`, if it is not 0, lets indexes that end in an integer key hold it divided by that, so
    that rows that are alike for a stretch share an entry where a database can do that; whoever
    walks such an index sorts the rows of each stretch. It must not change within a version.
    """

    name: str
    version: int
    row_type: type[RowT]
    key: str
    indexes: tuple[tuple[str, ...], ...] = ()
    counted: tuple[tuple[str, ColumnKind], ...] = ()
    lacks: tuple[str, ...] = ()
    build: int = 1
    stretch: int = 0

    @property
    def physical_name(self) -> str:
        """The name in the database: versions of one table, and builds of one version, stand side
        by side."""
        copy = f"_b{self.build}" if self.build > 1 else ""
        return f"{self.name}_v{self.version}{copy}"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in the order of the row type's fields."""
        hints = typing.get_type_hints(self.row_type)
        names = (name for name in self.row_type.__struct_fields__ if name not in self.lacks)
        return tuple(_column(name, hints[name]) for name in names)

    @property
    def key_kind(self) -> ColumnKind:
        """Kind of the key: an integer key is the position of the one event behind the row."""
        return next(column.kind for column in self.columns if column.name == self.key)

    def values(self, row: RowT) -> tuple[Any, ...]:
        """What the columns hold for a row, in their order."""
        if not self.lacks:
            return msgspec.structs.astuple(row)
        return tuple(getattr(row, column.name) for column in self.columns)


def _column(name: str, hint: object) -> Column:
    nullable = isinstance(hint, types.UnionType)
    if nullable:
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return Column(name, _KINDS[hint], nullable)


class Projection(Protocol[RowT]):
    """A named, versioned fold of the log into the rows of one table.

    All events that make up a row are of one stream, and each of `lines` has its event's position as
    its key: so a stream that cannot be folded is set aside without touching the others.
    """

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
    def change(self) -> Change | None:
        """How this version differs from the one before it; None if there is none to serve still."""
        ...

    @property
    def lines(self) -> Table[Any] | None:
        """A second table that is only ever appended to, if the projection has one."""
        ...

    def line(self, row: RowT | None, event: RecordedEvent) -> Row | None:
        """What the event adds to `lines`; `row` is the row of its key after the event."""
        ...


@dataclass(frozen=True)
class Change:
    """What a version of a projection changed; all that is not named here must stay the same.

    `added` names new columns of the table or of `lines`: each is a field of the row type with a
    default, and nothing else may depend on it. If that is all, the former version folds as this one
    does. Otherwise `former` is the former projection itself, and `as_before` makes of a row of this
    version what the former version's row has to be (None: the former has no such row).
    """

    added: tuple[str, ...] = ()
    former: Projection[Any] | None = None
    as_before: Callable[[Any], Row | None] | None = None


class OneTable:
    """What a projection without counts, lines and former versions need not say itself."""

    lines: Table[Any] | None = None
    change: Change | None = None

    def tally(self, row: Any) -> Iterable[CountKey]:
        """Nothing is counted."""
        del row
        return ()

    def line(self, row: Any, event: RecordedEvent) -> Row | None:
        """Nothing is added."""
        del row, event
        return None


class Build:
    """One copy of a projection's tables in a database, and the fold that fills it."""

    def __init__(self, projection: Projection[Any], build: int = 1) -> None:
        self.projection = projection
        self.name = projection.name
        self.version = projection.table.version
        self.number = build
        self.table: Table[Any] = replace(projection.table, build=build)
        lines = projection.lines
        self.lines: Table[Any] | None = None if lines is None else replace(lines, build=build)

    @property
    def tables(self) -> tuple[Table[Any], ...]:
        """All tables, counts aside."""
        return (self.table,) if self.lines is None else (self.table, self.lines)

    @property
    def key(self) -> tuple[str, int, int]:
        """Name, version and number: what identifies a build in a database."""
        return self.name, self.version, self.number


def former_of(projection: Projection[Any]) -> Projection[Any] | None:
    """The version before, which a database may still serve; None if the code does not know it."""
    change = projection.change
    if change is None:
        return None
    return change.former if change.former is not None else _Lacking(projection, change.added)


class _Lacking:
    """The former version of a projection that only added columns: the same fold without them."""

    def __init__(self, projection: Projection[Any], added: tuple[str, ...]) -> None:
        self.name = projection.name
        self.appends_only = projection.appends_only
        self.change = None
        self.key = projection.key
        self.fold = projection.fold
        self.tally = projection.tally
        self.line = projection.line
        version = projection.table.version - 1
        self.table: Table[Any] = _without(projection.table, version, added)
        lines = projection.lines
        self.lines = None if lines is None else _without(lines, version, added)


def _without(table: Table[Any], version: int, added: tuple[str, ...]) -> Table[Any]:
    """A table as it was in a version that lacks the columns added since."""
    lacks = tuple(name for name in added if name in table.row_type.__struct_fields__)
    indexes = tuple(index for index in table.indexes if not set(index) & set(lacks))
    return replace(table, version=version, lacks=lacks, indexes=indexes)
