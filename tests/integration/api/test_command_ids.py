"""Command ids: a call repeated under its id never acts twice, and another one under it is refused
instead of being taken for done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dee_es import Contact, Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import InvalidInput
from dee_es.ports import ChannelResult
from tests.support.engines import (
    BACKENDS,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)

Call = Callable[[Engine], object]
JANE = Contact(id="t", email="jane@example.com", phone="+15550100", firstName="Jane")


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    lost = MemoryChannel(lambda *_: ChannelResult("unknown", error="connection lost"))
    with open_engine(url, channel=lost) as opened:
        publish_basics(opened)
        yield opened


@contextmanager
def refused(engine: Engine, used_by: str) -> Iterator[None]:
    """The block is told which command had the id before, and the log is as long as before."""
    before = engine.health().position
    with pytest.raises(InvalidInput, match=f"was used by another command \\({used_by}\\)") as told:
        yield
    assert told.value.field == "command_id"
    assert engine.health().position == before


def of_run(run: str) -> dict[str, tuple[str, Call, Call]]:
    """Calls under one id, and others that are not the same."""
    return {
        "another kind": (
            "pause",
            lambda engine: engine.pause_run(run, command_id="k"),
            lambda engine: engine.cancel_run(run, "why", command_id="k"),
        ),
        "kept otherwise": (
            "pause",
            lambda engine: engine.pause_run(run, command_id="k"),
            lambda engine: engine.pause_run(run, keep="remaining", command_id="k"),
        ),
        "an event": (
            "ingest",
            lambda engine: engine.ingest_event("email.opened", "t", run, command_id="k"),
            lambda engine: engine.cancel_run(run, "why", command_id="k"),
        ),
        "many runs": (
            "pause",
            lambda engine: engine.pause_run(run, command_id="k"),
            lambda engine: engine.bulk_cancel({"plan_id": "outreach"}, "why", command_id="k"),
        ),
    }


@pytest.mark.parametrize("name", of_run(""))
def test_another_command_to_a_run_is_refused(engine: Engine, name: str) -> None:
    run = engine.execute(outreach(), JANE).id
    used_by, first, other = of_run(run)[name]
    first(engine)
    with refused(engine, used_by):
        other(engine)
    before = engine.health().position
    first(engine)
    assert engine.health().position == before, "repeated, it does nothing and is a success"


def test_the_id_of_the_enrolment_is_taken_too(engine: Engine) -> None:
    run = engine.execute(outreach(), JANE, command_id="k").id
    with refused(engine, "execute"):
        engine.pause_run(run, command_id="k")
    assert engine.execute(outreach(), JANE, command_id="k").id == run


@pytest.mark.parametrize("own", ["tick", "result"])
def test_an_id_that_looks_like_one_of_the_engines_own_is_a_callers_all_the_same(
    engine: Engine, own: str
) -> None:
    run = engine.execute(outreach(), JANE).id
    engine.tick()
    rows = engine._parts.store.read_stream(run)
    metas = [each.meta for each in engine._journal.open_public(rows)]
    taken = next(meta.command_id for meta in metas if meta.command == own)
    for _ in range(2):
        assert engine.cancel_run(run, "why", command_id=taken).status == "cancelled"
    with refused(engine, "cancel"):
        engine.pause_run(run, command_id=taken)


def test_a_send_is_not_settled_otherwise_under_one_id(engine: Engine) -> None:
    run = engine.execute(outreach(), JANE).id
    engine.tick()
    engine.resolve_step(run, "failed", reason="asked", command_id="k")
    with refused(engine, "resolve"):
        engine.resolve_step(run, "delivered", reason="asked", command_id="k")
    assert engine.resolve_step(run, "failed", reason="asked", command_id="k").status == "failed"


def test_what_has_become_of_the_run_since_does_not_matter(engine: Engine) -> None:
    run = engine.execute(outreach(), JANE).id
    engine.pause_run(run, command_id="k")
    engine.resume_run(run, command_id="k2")
    engine.erase_contact("t", "asked")
    before = engine.health().position
    assert engine.pause_run(run, command_id="k").status == "cancelled"
    assert engine.resume_run(run, command_id="k2").status == "cancelled"
    assert engine.health().position == before
    with refused(engine, "pause"):
        engine.cancel_run(run, "why", command_id="k")


def test_many_runs_again_under_their_id_are_the_same_command(engine: Engine) -> None:
    engine.bulk_execute(outreach(), people(3))
    chosen = {"plan_id": "outreach"}
    assert engine.bulk_pause(chosen, "later", command_id="k").changed == 3
    with refused(engine, "bulk_pause"):
        engine.bulk_resume(chosen, "now", command_id="k")
    with refused(engine, "bulk_pause"):
        engine.bulk_cancel(chosen, "over", command_id="k")
    assert {run.status for run in engine.list_runs().runs} == {"paused"}


NEXT = EPOCH + timedelta(days=9)
SUPPRESS = {
    "level": lambda e: e.suppress("t", level="regulatory", command_id="k"),
    "scope": lambda e: e.suppress("t", level="channel", channel="email", command_id="k"),
    "address": lambda e: e.suppress("t", email="another@example.com", command_id="k"),
    "consent": lambda e: e.grant_consent("t", "email", command_id="k"),
    "lifting": lambda e: e.unsuppress("t", command_id="k"),
}


@pytest.mark.parametrize("name", SUPPRESS)
def test_another_command_than_a_suppression_is_refused(engine: Engine, name: str) -> None:
    assert engine.suppress("t", command_id="k")
    with refused(engine, "suppress"):
        SUPPRESS[name](engine)
    assert engine.contact_at("t").suppressions == ("global",)


def granted(purpose: str | None = "news", until: datetime | None = NEXT) -> Call:
    return lambda e: e.grant_consent(
        "t", "email", purpose=purpose, expires_at=until, command_id="k"
    )


CONSENT: dict[str, Call] = {
    "revoking": lambda e: e.revoke_consent("t", "email", purpose="news", command_id="k"),
    "revoking all": lambda e: e.revoke_consent("t", "email", command_id="k"),
    "channel": lambda e: e.grant_consent("t", "voice", purpose="news", command_id="k"),
    "purpose": granted(None),
    "time": granted("news", None),
    "suppressing": lambda e: e.suppress("t", command_id="k"),
}


@pytest.mark.parametrize("name", CONSENT)
def test_another_command_than_a_consent_is_refused(engine: Engine, name: str) -> None:
    assert granted()(engine)
    with refused(engine, "consent"):
        CONSENT[name](engine)
    before = engine.health().position
    assert granted()(engine)
    assert engine.health().position == before


def test_taking_everything_back_is_not_taking_one_thing_back(engine: Engine) -> None:
    engine.grant_consent("t", "email", purpose="news")
    assert engine.revoke_consent("t", "email", command_id="k")
    with refused(engine, "consent"):
        engine.revoke_consent("t", "email", purpose="news", command_id="k")
    assert engine.revoke_consent("t", "email", command_id="k")


def test_what_has_become_of_the_contact_since_does_not_matter(engine: Engine) -> None:
    engine.grant_consent("t", "email", purpose="news")
    engine.suppress(email="jane@example.com")
    engine.execute(outreach("other"), Contact(id="t", email="former@example.com", firstName="J"))
    calls: dict[str, Call] = {
        "suppress": lambda e: e.suppress("t", email="Jane@example.com", command_id="k1"),
        "unsuppress": lambda e: e.unsuppress("t", command_id="k2"),
        "grant": lambda e: e.grant_consent("t", "voice", expires_at=NEXT, command_id="k3"),
        "revoke": lambda e: e.revoke_consent("t", "email", command_id="k4"),
    }
    for call in calls.values():
        assert call(engine)
    engine.unsuppress(email="jane@example.com")
    engine.execute(outreach(), JANE)
    engine.grant_consent("t", "email", purpose="offers")
    engine.suppress("t")
    for _ in range(2):
        before = engine.health().position
        for name, call in calls.items():
            assert call(engine), name
        assert engine.health().position == before
        engine.erase_contact("t", "asked")


def test_a_consent_is_granted_again_although_it_has_expired_meanwhile(engine: Engine) -> None:
    assert granted()(engine)
    engine.run_until(engine.clock.scale.tick_from(NEXT) + 1)
    before = engine.health().position
    assert granted()(engine)
    assert engine.health().position == before
    with pytest.raises(InvalidInput, match="expires_at: has passed"):
        engine.grant_consent("t", "email", expires_at=NEXT)


def test_what_a_channel_told_of_is_no_command_of_a_person(engine: Engine) -> None:
    engine.execute(outreach(), JANE)
    assert engine.ingest_event("email.unsubscribed", "t", command_id="k")
    with refused(engine, "ingest"):
        engine.suppress("t", command_id="k")


def test_another_event_under_one_id_is_refused(engine: Engine) -> None:
    run = engine.execute(outreach(), JANE).id
    for _ in range(2):
        assert engine.ingest_event("email.opened", "t", run, command_id="k")
    for kind, who, where in (
        ("email.clicked", "t", run), ("email.opened", "t", None), ("email.opened", "u", None),
    ):  # fmt: skip
        before = engine.health().position
        with pytest.raises(InvalidInput, match="was used by another"):
            engine.ingest_event(kind, who, where, command_id="k")
        assert engine.health().position == before
    # An event that has an id of its own is known by that.
    assert not engine.ingest_event("email.opened", "t", event_id="k", command_id="k2")


def test_another_hold_under_one_id_is_refused(engine: Engine) -> None:
    run = engine.execute(outreach(), JANE).id
    hold = engine.place_hold(contact_id="t", reason="a case", command_id="k")
    with refused(engine, "hold"):
        engine.place_hold(run_id=run, reason="a case", command_id="k")
    with refused(engine, "hold"):
        engine.lift_hold(hold.hold_id, "settled", command_id="k")
    assert engine.holds() == [hold]
    other = engine.place_hold(run_id=run, reason="a case")
    engine.lift_hold(hold.hold_id, "settled", command_id="k2")
    with refused(engine, "lift_hold"):
        engine.lift_hold(other.hold_id, "settled", command_id="k2")
    before = engine.health().position
    assert engine.place_hold(contact_id="t", reason="a case", command_id="k") == hold
    engine.lift_hold(hold.hold_id, "settled", command_id="k2")
    assert engine.health().position == before
    assert engine.holds() == [other]


def test_an_erasure_under_an_id_of_another_command_does_nothing(engine: Engine) -> None:
    """A run that the other command changed would not have been ended."""
    run = engine.execute(outreach(), JANE).id
    engine.pause_run(run, command_id="k")
    with refused(engine, "pause"):
        engine.erase_contact("t", "asked", command_id="k")
    engine.suppress("t", command_id="k2")
    with refused(engine, "suppress"):
        engine.erase_contact("t", "asked", command_id="k2")
    done = engine.erase_contact("t", "asked", command_id="k3")
    assert done.cancelled == (run,)
    assert engine.erase_contact("t", "asked", command_id="k3").runs == done.runs
