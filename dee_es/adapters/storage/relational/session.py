"""The narrow waist between the shared SQL and a database: what a backend has to offer.

Shared statements are written once, with `?` for a value and `IN ??` for a list of values; each
backend translates the two marks. Identifiers in them come from declarations in this code base,
values are always bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from dee_es.core.projection import ColumnKind

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")
Values = tuple[Any, ...]
"""One row, in the order of its relation's columns."""


@dataclass(frozen=True)
class Relation:
    """A table as a writer sees it: its name, its columns with their kinds, and its key."""

    name: str
    columns: tuple[tuple[str, ColumnKind], ...]
    key: tuple[str, ...]

    def __hash__(self) -> int:
        # Statements are cached by relation; a name stands for one shape within a program.
        return hash(self.name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(name for name, _ in self.columns)

    @cached_property
    def listed(self) -> str:
        """The columns' names, quoted, as SQL lists them."""
        return ", ".join(quoted(name) for name in self.names)

    @cached_property
    def rest(self) -> tuple[str, ...]:
        """The columns outside the key."""
        return tuple(name for name in self.names if name not in self.key)


class Answer(Protocol):
    """The result of a statement, fetched when it is needed."""

    def fetchall(self) -> list[Any]: ...


class Session(Protocol):
    """One open transaction.

    `ask` may put off waiting for the database until the answer is fetched, so ask everything first
    and fetch afterwards. What changes rows may be put off until something is asked, or the end.
    """

    def ask(self, sql: str, params: Sequence[object] = ()) -> Answer: ...

    def change(self, table: str, sql: str, params: Sequence[object]) -> None:
        """Change rows of a table by a statement whose result nobody needs."""
        ...

    def insert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """Add rows whose keys are new."""
        ...

    def update(self, relation: Relation, rows: Sequence[Values]) -> None:
        """Replace rows whose keys exist."""
        ...

    def upsert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """Add rows, or replace them where their keys exist."""
        ...

    def add(self, relation: Relation, rows: Sequence[Values]) -> None:
        """Add rows, or add their one column outside the key to what is there."""
        ...


class Database(Protocol):
    """Where sessions come from. Every method raises `StoreUnavailable` within bounded time."""

    @property
    def now_ms(self) -> str:
        """SQL for the database's own clock, in ms since 1970 UTC."""
        ...

    def appending(
        self, small: bool = False, makes_tables: bool = False
    ) -> AbstractContextManager[Session]:
        """A transaction that holds the append lock; commits at the end, rolls back on an error.

        `small` promises few rows, so that the backend may choose its path of least latency; tables
        may be made and dropped only if `makes_tables` says so.
        """
        ...

    def lasting(self, kept: bool = False) -> AbstractContextManager[Session]:
        """A transaction without the append lock, where the database can have it so, and without a
        bound on how long its statements take.

        If the database's machine fails within a second of its end, what it did may be lost, unless
        that is to be `kept`.
        """
        ...

    def snapshot(
        self, lasting: bool = False, lenient: bool = False
    ) -> AbstractContextManager[Session]:
        """A read-only transaction all of whose statements see the same moment.

        `lasting` lifts the bound on how long it takes. `lenient`, and a lasting one, read texts too
        that somebody edited into what is none, with surrogates in them.
        """
        ...

    def claim(self, name: str) -> AbstractContextManager[None]:
        """Sole possession of a name in this database, given up at the latest with the process.

        Raises `ConcurrencyConflict` at once if somebody else has it. Where it can be lost before
        its end, whoever had it changes nothing any more: its transactions raise `StoreUnavailable`,
        and so does its end.
        """
        ...

    def settle(self, tables: Sequence[str]) -> None:
        """Do the housekeeping of tables that were just filled."""
        ...

    def bytes_of(self, tables: Sequence[str], cheaply: bool = False) -> int | None:
        """Bytes of the tables with their indexes; None if the database cannot tell, or not
        `cheaply`, without reading all of them."""
        ...

    def query(self, sql: str, params: Sequence[object] = ()) -> list[Any]:
        """The rows of a single reading statement; raises `TableGone` if its table is not there."""
        ...


def quoted(name: str) -> str:
    """An identifier as SQL writes it; only plain names are ever declared."""
    if not name.isidentifier() or not name.isascii() or len(name) > 63:
        raise ValueError(f"not a plain name for a table or column: {name!r}")
    return f'"{name}"'


def as_asked(keys: Sequence[KeyT], found: Mapping[KeyT, ValueT]) -> dict[KeyT, ValueT]:
    """What was found, in the order asked for: no database's order of rows is to reach a caller."""
    return {key: found[key] for key in keys if key in found}
