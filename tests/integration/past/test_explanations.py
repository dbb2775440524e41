"""What an explanation says of a run rests on what could be read, never on what could not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest

from dee_es.adapters.storage.postgres import open_postgres
from dee_es.core.events import RecordedEvent
from dee_es.errors import StoreUnavailable
from tests.support.engines import open_engine, outreach, people, publish_basics


def test_an_outage_is_no_verdict_on_the_run(
    fresh_postgres: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of the run were read, its plan was not: another session took the log away in
    between, and the other tables answer all the time."""
    url, keys = fresh_postgres(), tmp_path / "keys.db"
    with open_engine(url, keys=keys) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), people(1)[0])
    monkeypatch.setattr(
        "dee_es.adapters.storage.postgres.open_postgres", partial(open_postgres, lock_timeout_s=1)
    )
    with open_engine(url, keys=keys) as engine, psycopg.connect(url) as other:
        get_events = engine.get_events

        def locked_behind(run_id: str) -> list[RecordedEvent]:
            history = get_events(run_id)
            other.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
            return history

        with monkeypatch.context() as patched:
            patched.setattr(engine, "get_events", locked_behind)
            with pytest.raises(StoreUnavailable, match="another session has a table"):
                engine.explain(run.id)
            assert engine._parts.store.heads([run.id]), "the rest of the database was there"
        other.rollback()
        assert "This code cannot" not in str(engine.explain(run.id))
