"""The answer to a commit is lost: every command finds in the log what it has done, and goes on as
if it had been told; and where nothing was committed, its caller hears that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from dee_es import Engine, SuppressionEntry
from dee_es.errors import StoreUnavailable
from dee_es.ports import StoredRow
from tests.support.engines import (
    BACKENDS,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)

Command = Callable[[Engine], object]


def _run_of(engine: Engine, contact_id: str) -> str:
    return engine.list_runs(contact_id=contact_id).runs[0].id


def _imported(engine: Engine) -> object:
    listed = [SuppressionEntry(email=f"{n}@example.org") for n in range(5)]
    return engine.import_suppressions(listed, batch_size=3)


COMMANDS: Final[dict[str, Command]] = {
    "template": lambda engine: engine.publish_template("new", text="Another"),
    "plan": lambda engine: engine.publish_plan(outreach("second")).version,
    "execute": lambda engine: engine.execute(outreach(), {"id": "n", "email": "n@example.com"}),
    "bulk_execute": lambda engine: engine.bulk_execute(outreach(), people(9), batch_size=4),
    "pause": lambda engine: engine.pause_run(_run_of(engine, "c00"), reason="later"),
    "cancel": lambda engine: engine.cancel_run(_run_of(engine, "c00"), "over"),
    "bulk_pause": lambda engine: engine.bulk_pause({"plan_id": "outreach"}, reason="later"),
    "bulk_cancel": lambda engine: engine.bulk_cancel({"plan_id": "outreach"}, "over"),
    "suppress": lambda engine: engine.suppress("c00", reason="asked"),
    "consent": lambda engine: engine.grant_consent("c00", "email", purpose="news"),
    "import": _imported,
    "hold": lambda engine: engine.place_hold(contact_id="c00", reason="a case"),
    "event": lambda engine: engine.ingest_event("email.opened", "c00"),
    "erase": lambda engine: engine.erase_contact("c00", "asked").runs,
}
"""Each commits at least once; the answer to that is lost."""


@pytest.fixture(params=BACKENDS)
def urls(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Any) -> list[str]:
    folders = [tmp_path / "told", tmp_path / "lost"]
    for folder in folders:
        folder.mkdir()
    return [database_url(request.param, folder, fresh_postgres) for folder in folders]


def started(url: str) -> Engine:
    engine = open_engine(url, seed=11)
    publish_basics(engine)
    engine.bulk_execute(outreach(), people(4))
    return engine


def lose(engine: Engine, monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> None:
    """Lose the answer to the next commit, after it happened or before."""
    store = engine._parts.store

    def losing(work: Callable[..., object]) -> Callable[..., object]:
        def commit(*given: Any, **more: Any) -> object:
            monkeypatch.undo()
            if committed:
                work(*given, **more)
            raise StoreUnavailable("the connection was lost")

        return commit

    for name in ("commit", "decide"):
        monkeypatch.setattr(store, name, losing(getattr(store, name)))


def log_of(engine: Engine) -> list[StoredRow]:
    return engine._parts.store.read_log(0, 1_000)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_lost_answer_changes_nothing(
    name: str, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(urls[0]) as engine:
        told, expected = COMMANDS[name](engine), log_of(engine)
    with started(urls[1]) as engine:
        before = len(log_of(engine))
        lose(engine, monkeypatch, committed=True)
        assert COMMANDS[name](engine) == told
        assert log_of(engine) == expected
        assert len(expected) > before
        assert engine.verify_log().valid


@pytest.mark.parametrize("name", COMMANDS)
def test_what_was_not_committed_is_told(
    name: str, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(urls[0]) as engine:
        before = log_of(engine)
        lose(engine, monkeypatch, committed=False)
        with pytest.raises(StoreUnavailable, match=r"lost|did not take"):
            COMMANDS[name](engine)
        assert log_of(engine) == before
