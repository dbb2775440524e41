"""A database with personal data off, on every backend: plain in the log, and never mixed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dee_es import Contact, Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import PlainKeys, open_memory_keys, open_sqlite_keys
from dee_es.engine.portable.run_file import read_run_file
from dee_es.errors import ContactSuppressed, IntegrityViolation, InvalidInput
from dee_es.ports.keys import NO_KEY
from tests.support.engines import (
    BACKENDS,
    EPOCH,
    assert_replays,
    database_url,
    master_of,
    outreach,
    publish_basics,
)

JANE = Contact(id="jane", email="jane@example.com", firstName="Jane")


def open_off(url: str, folder: Path, personal_data: str = "off") -> Engine:
    channel = MemoryChannel()
    keys = folder / "keys.db"
    config = EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        personal_data=personal_data,  # type: ignore[arg-type]
        audit_key_file=str(folder / "audit.key"),
        certificates=str(folder / "certificates"),
    )
    return Engine(
        config,
        channels={"email": channel, "voice": channel},
        keys=open_sqlite_keys(str(keys), master_of(keys)),
    )


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_life_without_encryption(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_off(url, tmp_path) as engine:
        publish_basics(engine)
        people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(9)]
        assert engine.bulk_execute(outreach(), people, batch_size=4).created == 9
        run = engine.execute(outreach(), JANE, {"offer": "ten percent"})
        engine.tick()
        engine.ingest_event("email.replied", "jane", run.id, "intro", {"text": "yes please"})
        engine.run_until_idle()
        assert engine.get_run(run.id).variables == {"offer": "ten percent"}
        assert engine.get_run(run.id).outcome == "replied"
        assert "yes please" in repr(engine.audit.get_by_run(run.id))
        assert_replays(engine)
        assert engine.verify_log().valid
        assert engine.audit.verify_indexes().valid
        rows = engine._parts.store.read_stream(run.id)
        assert b"jane@example.com" in rows[0].state
        assert engine._parts.store.contact_keys(["jane", "c1"]) == {}
        status = engine.keys.status()
        assert (status.ok, status.personal_data, status.contacts) == (True, "off", 0)
        assert any("personal data is off" in each for each in engine.health().advice)
        engine.suppress(email="jane@example.com", reason="asked")
        with pytest.raises(ContactSuppressed):
            engine.execute(outreach("other"), Contact(id="other", email="JANE@example.com"))
        head = engine.health().position
        with pytest.raises(InvalidInput, match="cannot be erased"):
            engine.erase_contact("jane", "asked")
        assert engine.health().position == head
        assert engine.get_run(run.id).variables
    if kind == "memory":
        return
    # What was decided when it was made stays, whatever the settings say later.
    with open_off(url, tmp_path, "encrypted") as again:
        assert again.get_run(run.id).variables == {"offer": "ten percent"}
        assert not again.keys.encrypts
        new = again.execute(outreach("third"), Contact(id="third", email="third@example.com"))
        assert b"third@example.com" in again._parts.store.read_stream(new.id)[0].state


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_encrypted_database_stays_so(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_off(url, tmp_path, "encrypted") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), JANE, {"offer": "ten percent"})
    with open_off(url, tmp_path, "off") as again:
        assert again.keys.encrypts
        assert again.get_run(run.id).variables == {"offer": "ten percent"}
        new = again.execute(outreach("third"), Contact(id="third", email="third@example.com"))
        assert b"third@example.com" not in again._parts.store.read_stream(new.id)[0].state
        assert again.erase_contact("jane", "asked").key_destroyed


def test_the_log_alone_cannot_turn_encryption_off(tmp_path: Path) -> None:
    """A log that says otherwise than the key store remembers is refused, and none is begun."""
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    with open_off(url, tmp_path, "encrypted") as engine:
        publish_basics(engine)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(IntegrityViolation, match="personal data encrypted"):
        open_off(other, tmp_path, "off")
    (tmp_path / "elsewhere").mkdir()
    with open_off(other, tmp_path / "elsewhere", "off") as engine:
        publish_basics(engine)
    # Put in the place of the encrypted one, as somebody who owns the database could do.
    with pytest.raises(IntegrityViolation, match="personal data encrypted"):
        open_off(other, tmp_path, "encrypted")
    with pytest.raises(IntegrityViolation, match="personal data off"):
        open_off(url, tmp_path / "elsewhere", "off")


def test_neither_reads_what_the_other_wrote() -> None:
    keys = open_memory_keys()
    plain = PlainKeys(keys)
    (key,) = keys.new_keys(1)
    assert plain.decrypt(NO_KEY, "run_x", 1, plain.encrypt(NO_KEY, "run_x", 1, b"text")) == b"text"
    with pytest.raises(IntegrityViolation, match="run_x, version 1"):
        plain.decrypt(key, "run_x", 1, keys.encrypt(key, "run_x", 1, b"text"))
    with pytest.raises(IntegrityViolation):
        plain.encrypt(key, "run_x", 1, b"text")
    with pytest.raises(IntegrityViolation, match="run_x, version 1"):
        keys.decrypt(NO_KEY, "run_x", 1, b"text")
    assert not keys.adopt(NO_KEY, bytes(32))
    assert not plain.adopt(key, bytes(32))
    assert plain.adopt(NO_KEY, None)
    assert plain.digest("email", "jane") == keys.digest("email", "jane")
    with pytest.raises(InvalidInput, match="no key to destroy"):
        plain.destroy(NO_KEY)


def test_a_run_goes_only_into_a_database_of_its_own_kind(tmp_path: Path) -> None:
    files = {}
    for mode in ("off", "encrypted"):
        folder = tmp_path / mode
        folder.mkdir()
        with open_off(":memory:", folder, mode) as engine:
            publish_basics(engine)
            run = engine.execute(outreach(), JANE, {"offer": "ten percent"})
            engine.run_until_idle()
            files[mode] = engine.export_run(run.id)
            if mode == "off":
                with pytest.raises(InvalidInput, match="cannot be left out"):
                    engine.export_run(run.id, personal_data=False)
    assert set(read_run_file(files["off"]).keys) == {NO_KEY}
    for mode, content in files.items():
        for other in ("off", "encrypted"):
            folder = tmp_path / f"{mode}-{other}"
            folder.mkdir()
            with open_off(":memory:", folder, other) as engine:
                if mode == other:
                    assert engine.import_run(content)
                    assert engine.get_run(run.id).variables == {"offer": "ten percent"}
                    assert engine.replay(run.id).identical
                else:
                    with pytest.raises(InvalidInput, match="personal data"):
                        engine.import_run(content)
                    assert engine.list_runs().total == 0


def test_a_contact_without_a_key_can_be_held(tmp_path: Path) -> None:
    with open_off(":memory:", tmp_path) as engine:
        publish_basics(engine)
        engine.execute(outreach(), JANE)
        engine.run_until_idle()
        with pytest.raises(InvalidInput, match="nothing is known"):
            engine.place_hold(contact_id="nobody", reason="a court's order")
        hold = engine.place_hold(contact_id="jane", reason="a court's order")
        end = engine.now().now + timedelta(days=1)
        assert engine.audit.archive(end, place="memory://away").held == 1
        engine.lift_hold(hold.hold_id, "settled")
        assert engine.audit.archive(end, place="memory://away").runs == 1
