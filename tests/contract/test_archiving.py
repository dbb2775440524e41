"""Events leave the log for tombstones: only those that are named exactly, and all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dee_es.core.events import RecordedEvent
from dee_es.core.evidence import chain
from dee_es.errors import IntegrityViolation
from dee_es.ports import (
    Committed,
    Conflict,
    EventStore,
    StreamAppend,
    TableTransaction,
    Tombstone,
    Unit,
)
from tests.support.storage.backends import RAW_ERRORS, Backend
from tests.support.storage.events import append, committed_at, run, unit

PLAN = "plan:p"


def stones(store: EventStore, stream_id: str, archive: int = 1) -> list[Tombstone]:
    return [
        Tombstone(r.position, r.stream_id, r.version, chain.unseal(r.state, "").checksum, archive)
        for r in store.read_stream(stream_id)
    ]


def nothing(*_: object) -> None:
    """Projections that follow the log do nothing here."""


def archive(
    store: EventStore,
    given: Sequence[Tombstone],
    also: Unit | None = None,
    forget: Callable[[TableTransaction], None] = nothing,
) -> Committed | Conflict:
    head = store.heads([PLAN])[PLAN]
    told = also or unit(PLAN, head.version, 1, previous=head.checksum)
    return store.archive(told, given, inline=nothing, forget=forget)


def filled(backend: Backend) -> EventStore:
    """A plan and two runs, of three events each, one after the other in the log."""
    store, _ = backend.open()
    store.commit([unit(PLAN, 0, 1)])
    store.commit([unit(run(1), 0, 3, ended=True), unit(run(2), 0, 3)])
    return store


def test_what_is_archived_leaves_its_tombstones(backend: Backend) -> None:
    store = filled(backend)
    gone = stones(store, run(1))
    told: list[RecordedEvent] = []
    seen: list[list[int]] = []

    def inline(_: TableTransaction, before: int, events: Sequence[RecordedEvent]) -> None:
        assert before == 7
        told.extend(events)

    def forget(tx: TableTransaction) -> None:
        seen.append([row.position for row in tx.read_log(0, 99)])

    head = store.heads([PLAN])[PLAN]
    outcome = store.archive(
        unit(PLAN, 1, 1, previous=head.checksum), gone, inline=inline, forget=forget
    )
    assert outcome == committed_at(8)
    assert [event.position for event in told] == [8]
    assert seen == [[1, 5, 6, 7, 8]]
    assert [row.position for row in store.read_log(0, 99)] == [1, 5, 6, 7, 8]
    assert [row.position for row in store.read_log(1, 2)] == [5, 6]
    assert store.read_stream(run(1)) == []
    assert store.read_streams([run(1)]) == {}
    assert store.read_first([run(1)]) == {}
    assert store.tombstones(0, 99) == gone
    assert store.tombstones(gone[0].position, gone[1].position) == gone[1:2]
    assert store.tombstones_of([run(2), run(1)]) == {run(1): gone}
    assert store.archived() == 3
    # The head stays: the run is known, and blocks its id for ever.
    assert store.heads([run(1)])[run(1)].version == 3
    assert store.log_head().position == 8
    assert store.commit([unit(run(1), 0, 1)]) == [Conflict("version", run(1))]
    assert store.commit([unit(run(3), 0, 1)]) == [committed_at(9)]


def test_a_stream_that_moved_meanwhile_is_not_archived(backend: Backend) -> None:
    store = filled(backend)
    gone = stones(store, run(1))
    last = store.heads([run(1)])[run(1)].checksum
    store.commit([unit(run(1), 3, 1, previous=last)])
    head = store.heads([PLAN])[PLAN]
    # An append without events only says at which version the stream is expected.
    guarded = Unit(
        (append(PLAN, 1, 1, previous=head.checksum), StreamAppend(run(1), 3, (), None, True, 0))
    )
    assert archive(store, gone, guarded) == Conflict("version", run(1))
    assert store.tombstones(0, 9) == []
    assert len(store.read_stream(run(1))) == 4


@pytest.mark.parametrize("wrong", ["position", "checksum", "version", "stream"])
def test_another_event_than_the_tombstone_names_stays(backend: Backend, wrong: str) -> None:
    store = filled(backend)
    first, *rest = stones(store, run(1))
    changed = {
        "position": Tombstone(77, first.stream_id, first.version, first.checksum, 1),
        "checksum": Tombstone(first.position, first.stream_id, 1, bytes(32), 1),
        "version": Tombstone(first.position, first.stream_id, 9, first.checksum, 1),
        "stream": Tombstone(first.position, run(2), 9, first.checksum, 1),
    }[wrong]
    before = store.read_log(0, 99)
    given = sorted([changed, *rest], key=lambda stone: stone.position)
    with pytest.raises(IntegrityViolation):
        archive(store, given)
    assert store.read_log(0, 99) == before
    assert store.tombstones(0, 99) == []
    assert store.archived() == 0


def test_nothing_leaves_if_the_projections_cannot_follow(backend: Backend) -> None:
    store = filled(backend)
    before = store.read_log(0, 99)

    def fails(_: TableTransaction) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        archive(store, stones(store, run(1)), forget=fails)
    assert store.read_log(0, 99) == before
    assert store.tombstones(0, 99) == []
    assert isinstance(archive(store, stones(store, run(1))), Committed)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM stored_events WHERE originator_version = 2",
        "DELETE FROM tombstones",
        "UPDATE tombstones SET archive = 7",
        "DELETE FROM tombstones WHERE version = 1",
    ],
)
def test_the_database_keeps_tombstones_and_what_has_none(
    disk_backend: Backend, statement: str
) -> None:
    store = filled(disk_backend)
    gone = stones(store, run(1))
    archive(store, gone)
    before = store.read_log(0, 99)
    with pytest.raises(RAW_ERRORS):
        disk_backend.raw(statement)
    assert store.read_log(0, 99) == before
    assert store.tombstones(0, 99) == gone
