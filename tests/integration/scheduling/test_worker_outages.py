"""What a worker says of a database that is away, and that it goes on by itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dee_es.engine.scheduling import scheduler
from dee_es.errors import StoreUnavailable
from tests.support.engines import open_engine, outreach, people, publish_basics


@pytest.mark.parametrize("standby", [False, True])
def test_an_outage_is_told_once_and_when_it_is_over(
    standby: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by one that has nothing to do yet, since another one is at work."""
    monkeypatch.setattr(scheduler, "POLL_S", 0.001)
    stop, asked = threading.Event(), []
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), people(1)[0])
        store = engine._parts.store
        real = store.acquire_lease
        if standby:
            assert real((0, 1), "another one", 60_000) is not None

        def acquire(*given: Any) -> Any:
            asked.append(given)
            if len(asked) <= 5:
                raise StoreUnavailable("refused")
            if len(asked) == 8:
                stop.set()
            return real(*given)

        monkeypatch.setattr(store, "acquire_lease", acquire)
        total = engine.worker(stop, lambda _: stop.set())
        assert total.delivered == (0 if standby else 1)
        assert engine.get_run(run.id).steps_completed == total.delivered
    told = [(each.message, each.__dict__.get("problem")) for each in caplog.records]
    assert told == [("database_unavailable", "refused"), ("database_back", None)]
