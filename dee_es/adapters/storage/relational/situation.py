"""How things stand for some units: what the database says of all that they touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dee_es.adapters.storage.relational import decide
from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Session, as_asked
from dee_es.core.ids import CounterKey
from dee_es.errors import IntegrityViolation
from dee_es.ports import BuildRow, Head, LogHead, Situation, Unit

_OF_END, _OF_HEAD, _OF_KEY, _OF_BUILD = range(4)
"""What a row of `READ_SITUATION` is about."""


class Touched:
    """What units touch beside streams and keys: asked for at once, fetched when it is needed."""

    def __init__(self, session: Session, units: Sequence[Unit]) -> None:
        self._session, self._units = session, units
        ids, (slots, counters) = decide.event_ids(units), decide.limited(units)
        self._ids = session.ask(sql.READ_EVENT_IDS, (ids,)) if ids else None
        self._counts = session.ask(sql.READ_COUNTERS, (slots, counters)) if counters else None

    def known(self, found: Situation) -> decide.Known:
        """All that deciding the units takes."""
        known = decide.Known(
            head=found.end,
            heads=found.heads,
            keys=found.keys,
            event_ids={row[0] for row in self._ids.fetchall()} if self._ids else set(),
            changed={},
            counts=counts_of(self._counts.fetchall()) if self._counts else {},
        )
        subjects, oldest = decide.guarded(self._units, found.end.suppression_epoch)
        if subjects:
            contacts = decide.contacts_of(subjects)
            since = self._session.ask(sql.CHANGED_SINCE, (subjects, oldest, contacts, oldest))
            for subject, level, scope, holder, epoch in since.fetchall():
                known.changed.setdefault(subject, {})[level, scope, holder] = epoch
        return known


def situation_of(
    found: Situation, stream_ids: Sequence[str], contact_ids: Sequence[str]
) -> Situation:
    """Of what was found, what was asked for, in the order asked."""
    heads, keys = as_asked(stream_ids, found.heads), as_asked(contact_ids, found.keys)
    return Situation(found.end, heads, keys)


def read_situation(rows: list[Any]) -> Situation:
    """What `READ_SITUATION` found; raises `IntegrityViolation` if the log has lost its head."""
    end: LogHead | None = None
    heads, keys = {}, {}
    for kind, name, version, value, due, ended, slice_, ordinal, epoch, _ in rows:
        if kind == _OF_HEAD:
            # SQLite keeps booleans as 0 and 1.
            heads[name] = Head(name, version, value, due, bool(ended), slice_, ordinal)
        elif kind == _OF_KEY:
            keys[name] = value
        elif kind == _OF_END:
            end = LogHead(version, ordinal, slice_, epoch)
    if end is None:
        raise IntegrityViolation("the table log_head has lost its row")
    return Situation(end, heads, keys)


def builds_of(rows: list[Any]) -> list[BuildRow]:
    """The builds of projections that `READ_SITUATION` found."""
    return sorted(
        (
            BuildRow(name, version, number, state, position, ordinal, parked)
            for kind, name, version, _, position, _, number, ordinal, parked, state in rows
            if kind == _OF_BUILD
        ),
        key=lambda build: build.key,
    )


def counts_of(rows: list[Any]) -> dict[CounterKey, int]:
    """What `READ_COUNTERS` found."""
    return {(key, slot): n for key, slot, n in rows}
