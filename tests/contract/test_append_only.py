"""The databases themselves refuse to change the log, whoever asks."""

from __future__ import annotations

import pytest

from tests.support.storage.backends import RAW_ERRORS, Backend
from tests.support.storage.events import committed_at, run, unit

COLUMNS = "stored_events (notification_id, originator_id, originator_version, topic, state)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = state",
        "UPDATE stored_events SET topic = 'RunCancelled' WHERE originator_version = 2",
        "UPDATE stored_events SET notification_id = notification_id + 100",
        "DELETE FROM stored_events",
        "DELETE FROM stored_events WHERE originator_version = 2",
        # A version, and a position, that are taken.
        f"INSERT INTO {COLUMNS} VALUES (9, '{run()}', 2, 'x', 'x')",
        f"INSERT INTO {COLUMNS} VALUES (2, 'plan:other', 1, 'x', 'x')",
    ],
)
def test_rows_of_the_log_cannot_be_changed(disk_backend: Backend, statement: str) -> None:
    store, _ = disk_backend.open()
    store.commit([unit(run(), 0, 3)])
    before = store.read_log(0, 9)
    with pytest.raises(RAW_ERRORS):
        disk_backend.raw(statement)
    assert store.read_log(0, 9) == before
    assert store.commit([unit(run(), 3)]) == [committed_at(4)]


def test_the_log_cannot_be_emptied(disk_backend: Backend) -> None:
    store, _ = disk_backend.open()
    store.commit([unit(run(), 0, 3)])
    # SQLite has no TRUNCATE, but a REPLACE that takes rows away without deleting them.
    statements = {
        "postgres": ["TRUNCATE stored_events", "TRUNCATE stored_events CASCADE"],
        "sqlite": [f"INSERT OR REPLACE INTO {COLUMNS} VALUES (2, '{run()}', 2, 'x', 'x')"],
    }
    for statement in statements[disk_backend.kind]:
        with pytest.raises(RAW_ERRORS):
            disk_backend.raw(statement)
    assert len(store.read_log(0, 9)) == 3


def test_a_log_survives_being_closed(disk_backend: Backend) -> None:
    store, _ = disk_backend.open()
    store.commit([unit(run(), 0, 3, tick=8, due_tick=9, slice=3)])
    before = (store.log_head(), store.heads([run()]), store.read_log(0, 9))
    store.close()
    again, _ = disk_backend.open()
    assert (again.log_head(), again.heads([run()]), again.read_log(0, 9)) == before
    assert again.advance_clock(3) == 8
    assert again.commit([unit(run(2))]) == [committed_at(4)]
