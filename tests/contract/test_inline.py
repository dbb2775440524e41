"""What runs inside the append's transaction commits or falls with it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dee_es.core.events import RecordedEvent
from dee_es.core.views import RunFilter
from dee_es.errors import IntegrityViolation
from dee_es.ports import (
    Conflict,
    EventStore,
    LogHead,
    Suppression,
    TableTransaction,
    Views,
)
from tests.support.storage.events import committed_at, due_runs, run, unit
from tests.support.storage.rows import (
    RUNS,
    add_runs,
    key_of,
    listed,
    place,
    position,
    prepare,
    run_row,
)


class Boom(Exception):
    """What an inline step of these tests raises."""


def test_it_is_told_what_was_appended(store: EventStore) -> None:
    store.commit([unit("plan:p")])
    calls: list[tuple[int, list[RecordedEvent]]] = []

    def inline(_: TableTransaction, before: int, events: Sequence[RecordedEvent]) -> None:
        calls.append((before, list(events)))

    store.commit(
        [unit("contact:c", 0, 1, tick=4), unit("plan:p"), unit(run(1), 0, 2), unit(run(2))],
        inline=inline,
    )
    ((before, events),) = calls
    assert before == 1
    assert [(e.position, e.stream_id, e.version, e.ordinal) for e in events] == [
        (2, "contact:c", 1, 0),
        (3, run(1), 1, 1),
        (4, run(1), 2, 0),
        (5, run(2), 1, 2),
    ]
    assert [e.name for e in events] == [row.name for row in store.read_log(1, 9)]
    assert events[0].meta.tick == 4
    assert events[0].event is not None


def test_it_is_not_called_when_nothing_was_appended(store: EventStore) -> None:
    store.commit([unit(run())])
    calls: list[int] = []
    outcomes = store.commit([unit(run())], inline=lambda *_: calls.append(1))
    assert (outcomes, calls) == ([Conflict("version", run())], [])


def test_its_rows_commit_with_the_events(store: EventStore, views: Views) -> None:
    prepare(views, [RUNS])
    row = run_row(1)

    def inline(tables: TableTransaction, before: int, _: Sequence[RecordedEvent]) -> None:
        assert place(tables, RUNS) == (0, 0)
        add_runs(tables, [row])
        tables.move(key_of(RUNS), before + 1, 1)
        assert place(tables, RUNS) == (1, 1)
        assert tables.rows(RUNS, [row.run_id]) == {row.run_id: row}

    assert store.commit([unit(run())], inline=inline) == [committed_at(1)]
    assert views.run(RUNS, row.run_id) == row
    assert position(views, RUNS) == 1
    assert listed(views, RUNS, RunFilter(), 9) == ([row], 1, 1, 1)


def test_it_reads_the_log_as_it_was_before_the_append(store: EventStore) -> None:
    store.commit([unit(run(1), 0, 3)])
    seen: list[list[int]] = []

    def inline(tables: TableTransaction, _: int, __: Sequence[RecordedEvent]) -> None:
        seen.append([row.position for row in tables.read_log(1, 9)])
        seen.append([row.position for row in tables.read_log(0, 1)])

    store.commit([unit(run(2), 0, 2)], inline=inline)
    assert seen == [[2, 3], [1]]


def test_its_failure_undoes_everything(store: EventStore, views: Views) -> None:
    prepare(views, [RUNS])
    kept = Suppression("id:kept", "global", "", "kept")
    store.commit(
        [unit(run(1), 0, 2, tick=5, due_tick=6, suppress=(kept,), event_ids=("kept",))],
        inline=lambda tables, *_: add_runs(tables, [run_row(1)]),
    )
    before = (store.log_head(), store.heads([run(1)]), store.read_log(0, 9))
    lost = Suppression("id:lost", "global", "", "lost")

    def inline(tables: TableTransaction, position: int, _: Sequence[RecordedEvent]) -> None:
        add_runs(tables, [run_row(2)])
        tables.write(RUNS, (), [run_row(1, status="paused")])
        tables.move(key_of(RUNS), position + 1, 2)
        raise Boom

    with pytest.raises(Boom):
        store.commit(
            [
                unit(run(1), 2, 1, tick=50, due_tick=1),
                unit(
                    run(2),
                    due_tick=2,
                    suppress=(lost,),
                    unsuppress=(kept,),
                    event_ids=("lost",),
                    contact_keys=(("lost", b"k" * 16),),
                ),
            ],
            inline=inline,
        )
    assert (store.log_head(), store.heads([run(1)]), store.read_log(0, 9)) == before
    assert before[0] == LogHead(2, 1, 5, 1)
    assert store.heads([run(2)]) == {}
    assert due_runs(store, 99, 9) == [run(1)]
    assert store.next_due() == 6
    assert store.known_event_ids(["kept", "lost"]) == {"kept"}
    assert store.contact_keys(["lost"]) == {}
    assert [s.subject for s in store.suppressions(["id:kept", "id:lost"])] == ["id:kept"]
    assert position(views, RUNS) == 0
    assert views.list_runs(RUNS, RunFilter(), limit=9)[:2] == ([run_row(1)], 1)
    assert views.list_runs(RUNS, RunFilter(("active",)), limit=9)[1] == 1


def test_after_a_failure_the_same_units_go_through(store: EventStore) -> None:
    def inline(*_: object) -> None:
        raise Boom

    units = [unit(run(1), 0, 2, due_tick=3), unit("contact:c")]
    for _ in range(3):
        with pytest.raises(Boom):
            store.commit(units, inline=inline)
    assert store.stream_ids("") == []
    assert store.commit(units) == [committed_at(2), committed_at(3)]
    assert store.stream_ids("") == sorted([run(1), "contact:c"])
    assert store.heads([run(1)])[run(1)].ordinal == 1


def test_a_row_that_is_there_already_undoes_the_append(store: EventStore, views: Views) -> None:
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
    with pytest.raises(IntegrityViolation):
        store.commit([unit(run())], inline=lambda tables, *_: add_runs(tables, [run_row(1)]))
    assert store.log_head().position == 0
