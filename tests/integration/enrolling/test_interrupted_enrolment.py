"""Whoever interrupts an enrolment, as by Ctrl-C, at whatever answer it waits for: what is under way
is seen through, keeps nobody waiting, and the same call again enrolls what is missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dee_es.ports import beside
from tests.support.engines import (
    assert_replays,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.storage.postgres import FreshPostgres

BATCH, BATCHES = 4, 3


def people(name: str) -> list[dict[str, str]]:
    ids = [f"{name}_{n}" for n in range(BATCH * BATCHES)]
    return [{"id": each, "email": f"{each}@example.com", "firstName": "N"} for each in ids]


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> list[None]:
    """Have this thread interrupted at the `at`-th look for what it has begun; returns the looks
    that are left, the last one of which is that."""
    whole, left = beside._here._watch.ready, [None] * at

    def ready(timeout_s: float = 0) -> list[int]:
        if left:
            left.pop()
            if not left:
                raise KeyboardInterrupt
        return whole(timeout_s)

    monkeypatch.setattr(beside._here._watch, "ready", ready)
    return left


def test_nobody_waits_for_what_was_begun(
    fresh_postgres: FreshPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, keys = fresh_postgres(), tmp_path / "keys.db"
    with (
        open_engine(url, keys=keys) as engine,
        open_engine(url, keys=keys) as other,
        ThreadPoolExecutor(1) as elsewhere,
    ):
        publish_basics(engine)
        for at in range(1, 200):
            given, left = people(f"c{at}"), interrupt(monkeypatch, at)
            try:
                engine.bulk_execute(outreach(), given, batch_size=BATCH)
            except KeyboardInterrupt:
                assert not left
            else:
                assert left
                break
            finally:
                monkeypatch.undo()
            assert not beside.takes_turns()
            one = people(f"o{at}")[:1]
            told = elsewhere.submit(other.bulk_execute, outreach(), one).result()
            assert told.created == 1
            again = engine.bulk_execute(outreach(), given, batch_size=BATCH)
            assert (again.created + again.skipped, again.errors) == (len(given), 0)
            assert again.skipped % BATCH == 0, "a batch is taken in whole or not at all"
        assert at > 1, "it was interrupted at all"
        assert engine.list_runs(limit=1).total == at * len(given) + at - 1
        assert_replays(engine)
