"""One run as a file: out of any database and into any other, and nothing that was changed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import DeeError, InvalidInput, RunNotFound
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.runs.forging import Change, changed, forged

JANE = {"id": "c-1", "email": "jane@example.com", "firstName": "Jane"}


def lived(engine: Engine) -> str:
    """A run with a reply, a pause and a policy, under the second version of a template."""
    publish_basics(engine)
    engine.publish_template("intro", text="Dear {{contact.firstName}}")
    engine.publish_policy({"limits": {"perDay": {"contact": 3}}})
    run = engine.execute(outreach(), JANE, {"offer": 7}).id
    engine.run_until(10)
    engine.pause_run(run, "wait")
    engine.resume_run(run)
    engine.ingest_event("email.bounced", "c-1", data={"kind": "soft"})
    engine.run_until(4 * DAY)
    return run


@pytest.fixture(scope="module")
def exported() -> Iterator[tuple[Engine, str, bytes]]:
    with open_engine(":memory:") as engine:
        run = lived(engine)
        yield engine, run, engine.export_run(run)


@pytest.fixture(params=BACKENDS)
def scratch(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with open_engine(database_url(request.param, tmp_path, fresh_postgres)) as engine:
        yield engine


def test_an_imported_run_verifies_and_replays_like_the_original(
    exported: tuple[Engine, str, bytes], scratch: Engine
) -> None:
    original, run, content = exported
    assert scratch.import_run(content) == run
    assert scratch.verify_audit_chain(run).valid
    assert scratch.verify_log().valid
    assert scratch.replay(run) == original.replay(run)
    assert scratch.replay(run).identical
    known = original.get_run(run)
    assert scratch.get_run(run) == known
    assert scratch.list_runs().runs == (known,)
    theirs, ours = original.get_logs(run), scratch.get_logs(run)
    assert [(e.checksum, e.data) for e in ours] == [(e.checksum, e.data) for e in theirs]
    assert scratch.explain(run).now == original.explain(run).now
    # From there it goes on to the next database as it is.
    assert scratch.export_run(run) == content


def test_importing_twice_is_the_same_as_once(
    exported: tuple[Engine, str, bytes], scratch: Engine
) -> None:
    _, run, content = exported
    scratch.import_run(content)
    before = scratch.health().position
    assert scratch.import_run(content) == run
    assert scratch.health().position == before


def test_it_is_recorded_who_brought_a_run(
    exported: tuple[Engine, str, bytes], scratch: Engine
) -> None:
    original, run, content = exported
    before = scratch.health().position
    scratch.import_run(content, reason="ticket 77", actor="ann", command_id="import-1")
    (entry,) = scratch.audit.query(run_id=run, actions=["log.imported"]).entries
    assert (entry.actor, entry.reason, entry.position) == ("ann", "ticket 77", before + 1)
    told = {**(entry.input or {}), **(entry.output or {})}
    assert told["digest"] == hashlib.sha256(content).hexdigest()
    assert told["entries"] == scratch.health().position - entry.position
    assert told["personal_data"] is True
    scratch.import_run(content, actor="bob")
    assert scratch.audit.query(run_id=run, actions=["log.imported"]).total == 1
    ours = [(e.name, e.event, e.meta) for e in scratch.get_events(run)]
    assert ours == [(e.name, e.event, e.meta) for e in original.get_events(run)]
    assert scratch.verify_log().valid


def test_an_imported_run_does_not_act(exported: tuple[Engine, str, bytes], tmp_path: Path) -> None:
    _, run, content = exported
    channel = MemoryChannel()
    with open_engine(":memory:", channel=channel) as scratch:
        scratch.import_run(content)
        known = scratch.get_run(run)
        assert known.status == "waiting"
        scratch.run_until_idle()
        scratch.run_until(scratch.now().tick + 30 * DAY)
        assert channel.sent == []
        assert scratch.get_run(run) == known


def test_without_personal_data_it_reads_as_erased(
    exported: tuple[Engine, str, bytes], scratch: Engine
) -> None:
    original, run, _ = exported
    content = original.export_run(run, personal_data=False)
    for secret in ("jane@example.com", "Jane"):
        assert secret.encode() not in content
        assert base64.b64encode(secret.encode()) not in content
    scratch.import_run(content)
    assert scratch.verify_audit_chain(run).valid
    assert scratch.get_run(run).variables == {}
    assert scratch.replay(run).verdict == "erased"
    assert all(entry.erased or "personal" not in entry.data for entry in scratch.get_logs(run))


def test_two_runs_of_one_contact_share_their_definitions(scratch: Engine) -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        runs = [engine.execute(outreach(plan), JANE).id for plan in ("one", "two")]
        for run in runs:
            scratch.import_run(engine.export_run(run))
        assert [scratch.replay(run).verdict for run in runs] == ["identical"] * 2
        assert scratch.verify_log().valid


def test_runs_brought_in_later_than_younger_ones_are_found_by_their_time(scratch: Engine) -> None:
    """A list is in the order in which runs came here, whenever they began elsewhere."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        files = []
        for number in range(6):
            engine.run_until(100 * number)
            run = engine.execute(outreach(), {**JANE, "id": f"c-{number}"}).id
            files.append(engine.export_run(run))
    for number in (2, 5, 0, 1, 4, 3):
        scratch.import_run(files[number])
    began = [EPOCH + timedelta(seconds=100 * number) for number in range(6)]
    for first in range(6):
        assert scratch.list_runs(started_before=began[first]).total == first
        for last in range(6):
            page = scratch.list_runs(started_after=began[first], started_before=began[last])
            found = [run.started_at for run in page.runs]
            assert sorted(found) == began[first:last]
            assert page.total == len(found)
    chosen = {"started_after": began[1], "started_before": began[5]}
    for filters, total in [
        ({"status": "waiting"}, 0),
        ({"status": ["active", "waiting"]}, 4),
        ({"plan_id": "outreach"}, 4),
        ({"plan_id": "outreach", "status": "active"}, 4),
        ({"contact_id": "c-2"}, 1),
        ({"contact_id": "c-5"}, 0),
    ]:
        assert scratch.list_runs(**chosen, **filters).total == total
    seen, cursor = [], None
    while True:
        page = scratch.list_runs(**chosen, limit=1, cursor=cursor)
        assert page.total == 4
        seen += [run.contact_id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None or not page.runs:
            break
    assert seen == ["c-3", "c-4", "c-1", "c-2"]
    assert scratch.list_runs(**chosen, offset=3).runs[0].contact_id == "c-2"


def test_what_stands_in_the_way_is_said(
    exported: tuple[Engine, str, bytes], tmp_path: Path
) -> None:
    _, run, content = exported
    with open_engine(":memory:") as other:
        publish_basics(other)
        other.publish_template("intro", text="Something else")
        with pytest.raises(InvalidInput, match="stands here with other events"):
            other.import_run(content)
        with pytest.raises(RunNotFound):
            other.get_run(run)
        with pytest.raises(RunNotFound):
            other.export_run("run_" + "a" * 26)
    config = EngineConfig(":memory:", clock="manual", resolution_ms=500)
    with Engine(config) as faster, pytest.raises(InvalidInput, match=r"--resolution-ms 1000"):
        faster.import_run(content)


def test_a_run_that_went_on_elsewhere_is_not_overwritten(
    exported: tuple[Engine, str, bytes],
) -> None:
    original, run, content = exported
    with open_engine(":memory:") as scratch:
        scratch.import_run(content)
        scratch.cancel_run(run, "here only")
        assert scratch.import_run(content) == run
        assert scratch.get_run(run).status == "cancelled"
        with open_engine(":memory:") as third:
            third.import_run(content)
            longer = scratch.export_run(run)
            with pytest.raises(InvalidInput, match="stands here with other events"):
                third.import_run(longer)
    assert original.get_run(run).status == "waiting"


def test_a_run_that_was_archived_here_is_not_taken_in_beside_its_archive(scratch: Engine) -> None:
    publish_basics(scratch)
    run = scratch.execute(outreach(), JANE).id
    scratch.run_until_idle()
    content = scratch.export_run(run)
    end = scratch.now().now + timedelta(seconds=1)
    scratch.run_until(scratch.now().tick + 10)
    assert scratch.audit.archive(end, place="memory://run-file-archives").runs == 1
    before = scratch.health().position
    with pytest.raises(InvalidInput, match="archive"):
        scratch.import_run(content)
    assert scratch.health().position == before


def flip(document: dict[str, Any]) -> None:
    event = document["streams"][-1]["events"][2]
    state = bytearray(base64.b64decode(event["state"]))
    state[-1] ^= 1
    event["state"] = base64.b64encode(bytes(state)).decode()


TAMPERED: dict[str, tuple[Change, str]] = {
    "a byte of an event": (flip, "entry 3: the checksum does not match"),
    "an event gone": (lambda d: d["streams"][-1]["events"].pop(3), "entry 4"),
    "the first gone": (lambda d: d["streams"][-1]["events"].pop(0), "entry 1"),
    "another name": (
        lambda d: d["streams"][-1]["events"][1].update(name="os.system"),
        "knows no event 'os.system'",
    ),
    "another run": (lambda d: d.update(runId="run_" + "b" * 26), "must end with the events"),
    "no streams": (lambda d: d.update(streams=[]), "must end with the events"),
    "somebody's suppression": (
        lambda d: d["streams"].insert(0, {**d["streams"][0], "id": "contact:x"}), "streams",
    ),
    "an event of the clock": (
        lambda d: d["streams"].insert(0, {**d["streams"][0], "id": "system"}), "streams",
    ),
    "a definition twice": (lambda d: d["streams"].insert(0, d["streams"][0]), "once"),
    "a plan gone": (lambda d: d["streams"].pop(0), "must be those that the run decided by"),
    "a template gone": (lambda d: d["streams"].pop(-2), "must be those that the run decided by"),
    "a template cut short": (
        lambda d: d["streams"][-2]["events"].pop(), "must be those that the run decided by",
    ),
    "another key": (
        lambda d: d["keys"].update({next(iter(d["keys"])): base64.b64encode(b"k" * 32).decode()}),
        "do not open the run",
    ),
    "no key": (lambda d: d.update(keys={}), "must be those of the run's events"),
    "a short key": (lambda d: d["keys"].update({next(iter(d["keys"])): "AAAA"}), "no key"),
    "another format": (lambda d: d.update(format="dee-run/99"), "format"),
    "a true version": (lambda d: d["streams"][0]["events"][0].update(version=True), "version"),
}  # fmt: skip


@pytest.mark.parametrize("change, said", TAMPERED.values(), ids=TAMPERED)
def test_what_was_changed_is_refused_and_nothing_is_written(
    exported: tuple[Engine, str, bytes], change: Change, said: str
) -> None:
    _, _, content = exported
    with open_engine(":memory:") as scratch:
        before = scratch.health().position
        with pytest.raises(DeeError) as caught:
            scratch.import_run(changed(content, change))
        assert said in str(caught.value)
        assert scratch.health().position == before


@pytest.mark.parametrize("field, value", [("tick", 2**60), ("recorded_at", 2**60)])
def test_a_time_that_no_calendar_has_is_refused(
    exported: tuple[Engine, str, bytes], field: str, value: int
) -> None:
    """Time here would go on from there, and never back."""
    _, run, content = exported
    with open_engine(":memory:") as scratch:
        for stream in (run, "plan:outreach"):
            wrong = forged(content, stream, lambda payload: payload["meta"].update({field: value}))
            with pytest.raises(InvalidInput, match="no calendar has"):
                scratch.import_run(wrong)
        assert scratch.now().tick == 0
        assert scratch.import_run(content) == run


DEEP = json.loads("[" * 99 + "]" * 99)
POISON: dict[str, tuple[str, int, Change, str]] = {
    "a number": ("run", 0, lambda p: p["data"].update(start_tick=2**63), "integer beyond"),
    "a far number": (
        "run", 0, lambda p: p["data"].update(steps_remaining=10**30), "integer beyond",
    ),
    "a fraction": ("run", 1, lambda p: p["data"].update(more=float("1e400")), "payload"),
    "a contact": ("run", 0, lambda p: p["data"].update(contact_id="c\0-1"), "NUL"),
    "an actor": ("run", -1, lambda p: p["meta"].update(actor="a\0nn"), "NUL"),
    "a reason": ("run", 2, lambda p: p["meta"].update(reason="x" * 300_000), "bytes are more than"),
    "what nobody reads": ("run", 2, lambda p: p["data"].update(more="\udcec"), "not JSON"),
    "a template": (
        "template:intro", 1, lambda p: p["data"]["definition"].update(text="a\0b"), "NUL",
    ),
    "its depth": (
        "template:intro", 0, lambda p: p["data"]["definition"].update(x=DEEP), "deeper",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stream, place, change, said", POISON.values(), ids=POISON)
def test_what_no_reader_could_keep_is_refused(
    exported: tuple[Engine, str, bytes],
    scratch: Engine,
    stream: str,
    place: int,
    change: Change,
    said: str,
) -> None:
    """As at every other door: a chain that was made anew says nothing of what is in it."""
    _, run, content = exported
    stream = run if stream == "run" else stream
    before = scratch.health().position
    with pytest.raises(DeeError, match=said) as refused:
        scratch.import_run(forged(content, stream, change, place))
    assert stream in str(refused.value)
    assert scratch.health().position == before
    assert scratch.import_run(content) == run


@pytest.mark.parametrize("name", ["PolicyPublished", "RunCompleted", "ClockStarted"])
def test_a_definition_of_another_kind_is_refused(
    exported: tuple[Engine, str, bytes], name: str
) -> None:
    _, _, content = exported
    clock = {"epoch_ms": 0, "resolution_ms": 1, "kind": "manual"}

    def change(payload: dict[str, Any]) -> None:
        payload["name"] = name
        if name == "ClockStarted":
            payload.update(data=clock, schema=2)

    with open_engine(":memory:") as scratch:
        before = scratch.health().position
        with pytest.raises(InvalidInput, match="plan:outreach, entry 1: is no PlanPublished"):
            scratch.import_run(forged(content, "plan:outreach", change))
        assert scratch.health().position == before


def test_a_run_under_the_id_of_another_is_refused(exported: tuple[Engine, str, bytes]) -> None:
    """There it would stand in the way of an enrolment for ever."""
    _, run, content = exported

    def change(payload: dict[str, Any]) -> None:
        payload["data"]["contact_id"] = "c-2"

    with open_engine(":memory:") as scratch:
        before = scratch.health().position
        with pytest.raises(InvalidInput, match=r"runId: .* contact 'c-2'"):
            scratch.import_run(forged(content, run, change, 0))
        assert scratch.health().position == before


@pytest.mark.parametrize("name", ["plan:", "plan:a\0b", "template:a b", "plan:" + "x" * 200])
def test_a_definition_without_an_id_is_refused(
    exported: tuple[Engine, str, bytes], name: str
) -> None:
    _, _, content = exported
    wrong = changed(content, lambda document: document["streams"][0].update(id=name))
    with open_engine(":memory:") as scratch:
        with pytest.raises(InvalidInput, match=r"^streams\[0\]\.id: ") as refused:
            scratch.import_run(wrong)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", [None, 5])
def test_a_definition_that_is_none_is_told_by_the_replay(
    exported: tuple[Engine, str, bytes], text: object
) -> None:
    _, run, content = exported
    wrong = forged(
        content, "template:intro", lambda payload: payload["data"]["definition"].update(text=text)
    )
    with open_engine(":memory:") as scratch:
        scratch.import_run(wrong)
        assert scratch.replay(run).verdict == "different"
        assert scratch.replay_all().different == 1


def test_no_definition_comes_along_that_the_run_never_decided_by(
    exported: tuple[Engine, str, bytes], scratch: Engine
) -> None:
    """Such as a policy, which would hold for every run of the database from then on."""
    with open_engine(":memory:") as other:
        publish_basics(other)
        joan = other.execute(outreach("another"), {"id": "c-2", "firstName": "Joan"}).id
        streams = json.loads(other.export_run(joan))["streams"]
    (plan,) = [each for each in streams if each["id"] == "plan:another"]
    _, _, content = exported
    before = scratch.health().position
    with pytest.raises(InvalidInput, match="must be those that the run decided by"):
        scratch.import_run(changed(content, lambda d: d["streams"].insert(0, plan)))
    assert scratch.health().position == before


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_else_is_refused(content: bytes) -> None:
    with open_engine(":memory:") as scratch, pytest.raises(InvalidInput):
        scratch.import_run(content)


@given(cut=st.floats(0, 0.999), at=st.floats(0, 0.999), byte=st.integers(0, 255))
@settings(max_examples=60)
def test_a_file_that_was_cut_or_hit_is_never_half_imported(
    exported: tuple[Engine, str, bytes], cut: float, at: float, byte: int
) -> None:
    _, run, content = exported
    hit = bytearray(content)
    hit[int(at * len(hit))] = byte
    for damaged in (content[: int(cut * len(content))], bytes(hit)):
        with open_engine(":memory:") as scratch:
            before = scratch.health().position
            try:
                scratch.import_run(damaged)
            except DeeError:
                assert scratch.health().position == before
            else:
                # White space, or what says the same.
                assert scratch.verify_audit_chain(run).valid


@pytest.mark.parametrize("epoch", [10**18, -(10**15), 10**30, 10**400])
def test_an_epoch_that_no_calendar_has_is_refused(
    exported: tuple[Engine, str, bytes], epoch: int
) -> None:
    engine, _, content = exported
    document = json.loads(content)
    document["clock"]["epochMs"] = epoch
    with pytest.raises(InvalidInput, match="clock"):
        engine.import_run(json.dumps(document).encode())
