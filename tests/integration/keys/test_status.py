"""`engine.keys`: the key store beside the log, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dee_es import Contact, EngineConfig
from dee_es.bootstrap import Engine, restore_keys
from dee_es.errors import InvalidInput, StoreUnavailable
from tests.support.engines import (
    BACKENDS,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_status_fits_the_log_and_the_log_outlasts_a_backup(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dee_es.engine.keys._PAGE", 2)
    url = database_url(kind, tmp_path, fresh_postgres)
    backup = str(tmp_path / "keys.backup")
    with open_engine(url, keys=tmp_path / "keys.db") as engine:
        publish_basics(engine)
        runs = [
            engine.execute(outreach(), Contact(id=f"c{n}", email=f"c{n}@example.com"), {"n": n})
            for n in range(7)
        ]
        engine.suppress("only-listed")
        told: list[int] = []
        status = engine.keys.status(told.append)
        assert (status.ok, status.contacts, status.erased) == (True, 7, 0)
        assert told == [2, 4, 6, 7]
        before = [row.state for row in engine._parts.store.read_log(0, 10_000)]
        made = engine.keys.backup(backup)
        assert made.keys == status.keys
        assert "can undo the erasure" in made.warning
        for n in (1, 2, 5):
            engine.erase_contact(f"c{n}", "asked")
        engine.erase_contact("only-listed", "asked")
        status = engine.keys.status()
        # Who had no key got one to be destroyed.
        assert (status.ok, status.erased, status.destroyed) == (True, 4, 4)
        assert any("4 keys were destroyed since" in each for each in status.advice)
        # Two keys are lost, one of them of somebody who was erased.
        table = engine._parts.keys._table  # type: ignore[attr-defined]
        owners = engine._parts.store.contact_keys(["c0", "c1"])
        for key_id in owners.values():
            table._connection.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
        status = engine.keys.status()
        assert (status.ok, status.missing_contacts) == (False, ("c0",))
        done = engine.keys.restore(backup)
        assert (done.restored, done.destroyed) == (1, 1)
        engine._parts.keys.preload([])
        status = engine.keys.status()
        assert (status.ok, status.destroyed) == (True, 4)
        engine._runs.forget()
        for n, run in enumerate(runs):
            expected = {} if n in (1, 2, 5) else {"n": n}
            assert engine.get_run(run.id).variables == expected
        # Nothing of all that is in the log, or changed it.
        assert [row.state for row in engine._parts.store.read_log(0, len(before))] == before
        assert engine.verify_log().valid
        with pytest.raises(InvalidInput, match="path"):
            engine.keys.backup(" ")


def test_a_lost_key_store_is_not_made_anew_in_silence(tmp_path: Path) -> None:
    config = EngineConfig(f"sqlite:///{tmp_path / 'dee.db'}", clock="manual", epoch=EPOCH)
    with Engine(config) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), Contact(id="c1", email="c1@example.com"), {"n": 1})
        engine.keys.backup(str(tmp_path / "backup"))
        digest = engine.contact_id_for(email="jane@example.com")
    for path in tmp_path.glob("dee.keys.db*"):
        path.unlink()
    with pytest.raises(StoreUnavailable, match="dee keys restore"):
        Engine(config)
    assert not list(tmp_path.glob("dee.keys.db*"))
    with pytest.raises(InvalidInput):
        restore_keys(config, str(tmp_path / "dee.db"))
    done = restore_keys(config, str(tmp_path / "backup"))
    assert done.restored > 0
    with Engine(config) as engine:
        assert engine.get_run(run.id).variables == {"n": 1}
        assert engine.contact_id_for(email="jane@example.com") == digest
        rotated = engine.keys.rotate()
        assert not rotated.moved
        assert engine.get_run(run.id).variables == {"n": 1}
    with Engine(config) as engine:
        assert engine.keys.status().rotations == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_health_tells_of_a_rotation_that_this_process_has_not_seen(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """Until it is restarted it can read and write nothing that is personal."""
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, keys=tmp_path / "keys.db") as serving:
        assert serving.health().ok
        with open_engine(url, keys=tmp_path / "keys.db") as other:
            other.keys.rotate(new_key_file=str(tmp_path / "new.key"))
            assert other.health().ok
        health = serving.health()
        assert not health.ok
        assert any("the master key was rotated; restart" in each for each in health.problems)
