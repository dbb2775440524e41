"""More runs at work than are kept as they are: all goes on as if every one was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys.memory import MemoryKeyTable
from dee_es.adapters.storage.memory.store import MemoryStore
from dee_es.core.ids import slice_of
from dee_es.engine import run_cache
from dee_es.ports import Head
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    database_url,
    fickle,
    open_engine,
    outreach,
    people,
    publish_basics,
)

COUNT = 40
PAGE = 10


def lived(url: str) -> list[tuple[Any, ...]]:
    with open_engine(url, seed=5, page=PAGE, channel=MemoryChannel(fickle)) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people(COUNT))
        engine.run_until(4 * DAY)
        for run in engine.list_runs(limit=COUNT).runs[::7]:
            if run.status != "failed":
                engine.cancel_run(run.id, "changed")
        engine.erase_contact("c03", "asked")
        engine.run_until(9 * DAY)
        assert_replays(engine)
        store = engine._parts.store
        return [tuple(entry) for entry in store.read_entries(0, store.log_head().position)]


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize(("latest", "packed_bytes"), [(0, 0), (0, 10**6), (7, 10_000)])
def test_how_many_are_kept_changes_no_byte(
    kind: str,
    latest: int,
    packed_bytes: int,
    tmp_path: Path,
    fresh_postgres: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = lived(":memory:")
    made = run_cache.RunCache.__init__
    monkeypatch.setattr(
        run_cache.RunCache, "__init__", lambda cache: made(cache, latest, packed_bytes)
    )
    assert lived(database_url(kind, tmp_path, fresh_postgres)) == expected
    assert len(expected) > 5 * COUNT


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_run_stays_in_the_slice_of_its_contact(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """However it was read: all runs of a contact are one worker's, who counts what they send."""
    with open_engine(database_url(kind, tmp_path, fresh_postgres)) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people(8))
        slices = {run.id: slice_of(run.contact_id) for run in engine.list_runs().runs}
        engine.run_until(1)
        for run in slices:
            engine.pause_run(run)
        engine._runs.forget()
        engine.bulk_resume({"plan_id": "outreach"}, "go on")
        engine.run_until(4 * DAY)
        heads = engine._parts.store.heads(list(slices))
        assert {run: head.slice for run, head in heads.items()} == slices


def test_keys_that_were_forgotten_meanwhile_are_fetched_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One by one they would cost a question each."""
    made, fetch = run_cache.RunCache.__init__, MemoryKeyTable.fetch
    monkeypatch.setattr(run_cache.RunCache, "__init__", lambda cache: made(cache, 0, 10**6))
    asked: list[int] = []

    def fetching(table: MemoryKeyTable, key_ids: Sequence[bytes]) -> Any:
        asked.append(len(key_ids))
        return fetch(table, key_ids)

    with open_engine(":memory:", seed=5, page=PAGE) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people(COUNT))
        engine.run_until(1)
        engine._parts.keys._cache.clear()  # type: ignore[attr-defined]
        monkeypatch.setattr(MemoryKeyTable, "fetch", fetching)
        # The second message is written under each contact's key.
        engine.run_until(4 * DAY)
    assert asked == [PAGE] * (COUNT // PAGE)


def test_a_tick_reads_what_is_due_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs under way stay due until that is committed: they are not to be read for each page."""
    due, found = MemoryStore.due, Counter[str]()

    def finding(store: MemoryStore, tick: int, *asked: Any) -> list[Head]:
        heads = due(store, tick, *asked)
        found.update(head.stream_id for head in heads)
        return heads

    with open_engine(":memory:", seed=5, page=PAGE) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people(COUNT))
        monkeypatch.setattr(MemoryStore, "due", finding)
        engine.run_until(1)
        assert engine.list_runs(status="waiting").total == COUNT
    # Behind the last it looks from the first on, until nothing is left that is under way.
    assert len(found) == COUNT
    assert found.total() <= COUNT + 3 * PAGE
