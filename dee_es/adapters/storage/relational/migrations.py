"""Bringing a database to the schema this code knows: numbered, append-only, never edited."""

from __future__ import annotations

from collections.abc import Sequence

from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Session
from dee_es.errors import StoreUnavailable

Migration = tuple[str, ...]
"""The statements of one migration; its number is its place in the list, from 1."""


def migrate(session: Session, migrations: Sequence[Migration]) -> None:
    """Run what is missing, in a transaction that holds the append lock.

    Raises `StoreUnavailable` if the database has been migrated by a newer version of this code.
    """
    session.ask(sql.CREATE_MIGRATIONS)
    current = session.ask(sql.READ_MIGRATION).fetchall()[0][0]
    if current > len(migrations):
        raise newer(current, len(migrations))
    for number, statements in enumerate(migrations[current:], start=current + 1):
        for statement in statements:
            session.ask(statement)
        session.ask(sql.SAVE_MIGRATION, (number,))


def newer(current: int, known: int) -> StoreUnavailable:
    """What to tell whose code knows fewer migrations than the database has been through."""
    return StoreUnavailable(
        f"the database is at migration {current}, this code knows {known}: it was opened by a "
        "newer version; upgrade dee-es"
    )
