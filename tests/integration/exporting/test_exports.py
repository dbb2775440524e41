"""Exports as people and programs get them: what is in them, what the log says, where they go."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pypdf import PdfReader

from dee_es.core import events as e
from dee_es.core.ids import contact_stream
from dee_es.engine.exporting import document, proofs, scope
from dee_es.errors import AnchorUnavailable, InvalidInput, RunNotFound
from tests.support.engines import BACKENDS, DAY, EPOCH
from tests.support.evidence.exports import Log, lines, made_log, verify


@pytest.fixture(params=BACKENDS)
def log(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Log]:
    with made_log(request.param, tmp_path, fresh_postgres) as log:
        yield log


@pytest.fixture
def sqlite_log(tmp_path: Path) -> Iterator[Log]:
    with made_log("sqlite", tmp_path, str) as log:
        yield log


def recorded(log: Log) -> list[e.LogExported]:
    """What the log says was given out."""
    history = log.engine._system_log.history()
    return [each.event for each in history if isinstance(each.event, e.LogExported)]


def written(log: Log, **asked: Any) -> bytes:
    content = log.engine.audit.export(**asked).content
    assert content is not None
    return content


# --- what is in them ------------------------------------------------------------------------------


def test_a_run_comes_whole_and_with_what_explains_it(log: Log) -> None:
    run = log.run()
    told = json.loads(written(log, run_id=run))
    assert [each["version"] for each in told["entries"]] == [row.version for row in log.rows(run)]
    assert {each["stream"] for each in told["context"]} == {
        "system", contact_stream("c3"), "plan:outreach", "template:intro", "template:follow",
        "sender:default",
    }  # fmt: skip
    assert told["context"][0]["name"] == "ClockStarted"
    sent = next(each for each in told["entries"] if each["name"] == "StepDispatched")
    assert sent["personal"]["text"] == "Hello Né3"
    assert sent["stored"]["data"]["step_id"] == "intro"
    assert sent["action"] == "step.dispatched"
    assert told["export"]["key"] == log.key
    assert told["end"]["problems"] == []
    again = json.loads(written(log, run_id=run))
    assert again["entries"][-1]["action"] == "log.exported", "the first one is about this run"


def test_a_contact_comes_with_all_its_runs_and_a_period_with_everything(log: Log) -> None:
    of_contact = json.loads(written(log, contact_id="c3"))
    assert {each["stream"] for each in of_contact["entries"]} == {contact_stream("c3"), log.run()}
    whole = json.loads(written(log, since=EPOCH, format="json"))
    assert [each["position"] for each in whole["entries"]] == list(
        range(1, whole["export"]["through"] + 1)
    )
    start, end = EPOCH + timedelta(days=3), EPOCH + timedelta(days=3, seconds=1)
    part = json.loads(written(log, since=start, until=end))
    wanted = [
        each["position"]
        for each in whole["entries"]
        if 3 * DAY <= each["stored"]["meta"]["tick"] < 3 * DAY + 1
    ]
    assert [each["position"] for each in part["entries"]] == wanted != []


def test_json_lines_say_the_same_as_json(sqlite_log: Log) -> None:
    asked = {"run_id": sqlite_log.run("c5"), "until": EPOCH + timedelta(days=30)}
    one = json.loads(written(sqlite_log, **asked))
    path = sqlite_log.exported("run.jsonl", run_id=sqlite_log.run("c5"))
    assert [r for r in lines(path) if r["record"] == "entry"][: len(one["entries"])] == one[
        "entries"
    ]


def test_csv_is_a_table_that_no_spreadsheet_runs(log: Log) -> None:
    rows = list(csv.DictReader(io.StringIO(written(log, contact_id="c3", format="csv").decode())))
    told = {entry.position: entry for entry in log.engine.audit.query(contact_id="c3").entries}
    for row in rows:
        entry = told[int(row["position"])]
        assert (row["id"], row["action"], row["runId"] or None, row["planId"] or None) == (
            entry.id, entry.action, entry.run_id, entry.plan_id
        )  # fmt: skip
        assert (row["tick"], row["contactId"]) == (str(entry.tick), "c3")
    (suppressed,) = [row for row in rows if row["action"] == "contact.suppressed"]
    assert suppressed["reason"] == "'=asked us to stop"


def test_a_pdf_can_be_read_by_people(log: Log) -> None:
    run = log.run()
    content = written(log, run_id=run, format="pdf", actor="ann", reason="a complaint")
    pages = PdfReader(io.BytesIO(content)).pages
    text = " ".join(page.extract_text() for page in pages)
    flat = " ".join(text.split())
    for told in (
        f"Record of run {run}", "Made by ann", "Made for a complaint", f"page 1 of {len(pages)}",
        "The run of version 1 of the plan outreach for contact c3 started",
        "The plan: Outreach (outreach, version 1)", "Hello Né3", "To c3@example.com",
        "Suppressed global", "email:news: granted", "How to verify this",
    ):  # fmt: skip
        assert told in flat, told
    compact = text.replace("\n", "").replace(" ", "")
    for row in log.rows(run):
        assert row.state[36:68].hex() in compact
    assert log.key in compact


def test_a_pdf_of_a_period_tells_consent_and_suppression_as_they_stand(log: Log) -> None:
    """They were given and placed before the period, or behind it."""
    whole = _standing(log, contact_id="c3")
    assert "Suppressed global" in whole
    assert "email:news: granted" in whole
    since = log.engine.now().now
    assert _standing(log, contact_id="c3", since=since) == whole
    assert _standing(log, contact_id="c3", until=EPOCH + timedelta(seconds=1)) == whole
    assert _standing(log, run_id=log.run(), since=since) == whole


def _standing(log: Log, **asked: Any) -> str:
    pages = PdfReader(io.BytesIO(written(log, format="pdf", **asked))).pages
    flat = " ".join(" ".join(page.extract_text() for page in pages).split())
    return flat.partition(" Suppressed ")[1] + flat.partition(" Suppressed ")[2].partition("Ref")[0]


def test_what_was_erased_reads_so_everywhere(log: Log) -> None:
    log.engine.erase_contact("c3", "asked for it")
    for shape in ("json", "jsonl", "csv", "pdf"):
        done = log.engine.audit.export(log.run(), format=shape)
        assert not done.personal_data
        content = done.content or b""
        if shape == "pdf":
            pages = PdfReader(io.BytesIO(content)).pages
            content = " ".join(page.extract_text() for page in pages).encode()
            assert b"erased with the contact" in content
        assert b"c3@example.com" not in content
        assert "Né3".encode() not in content
    assert not recorded(log)[-1].personal_data


def test_a_pdf_has_a_bound_that_says_what_to_do(
    sqlite_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded(sqlite_log)
    for name, most in (("MOST_ENTRIES", 10), ("MOST_CHARACTERS", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(document, name, most)
            with pytest.raises(InvalidInput, match=r"format: a PDF .*; use jsonl"):
                sqlite_log.engine.audit.export(sqlite_log.run(), format="pdf")
            bundle = sqlite_log.engine.audit.bundle(sqlite_log.run()).content
            names = zipfile.ZipFile(io.BytesIO(bundle or b"")).namelist()
            assert "export.pdf" not in names
            assert "export.jsonl" in names
    assert len(recorded(sqlite_log)) == len(before) + 2


@pytest.mark.parametrize(
    "asked, problem",
    [
        ({}, "run_id: name a run"),
        ({"run_id": "run_" + "a" * 26, "contact_id": "c3"}, "give one of them"),
        ({"contact_id": "nobody"}, "nothing is known of 'nobody'"),
        ({"contact_id": "a b"}, "contact_id"),
        ({"since": EPOCH.replace(tzinfo=None)}, "since"),
        ({"since": EPOCH, "until": EPOCH}, "until: must be later"),
        ({"since": EPOCH, "format": "xml"}, "format: must be one of json"),
        ({"since": EPOCH, "output": 7}, "output: must be a path"),
        ({"since": EPOCH, "output": "/"}, "output"),
        ({"since": EPOCH, "output": ".hidden"}, "output"),
        ({"since": EPOCH, "output": "s3://x"}, "output: a URL needs"),
        ({"since": EPOCH, "actor": " "}, "actor"),
    ],
)
def test_bad_calls_are_refused_and_recorded_nowhere(
    sqlite_log: Log, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        sqlite_log.engine.audit.export(**asked)
    assert recorded(sqlite_log) == []


def test_a_run_that_never_was(sqlite_log: Log) -> None:
    for asked in ("run_" + "a" * 26, "plan:outreach"):
        with pytest.raises(RunNotFound):
            sqlite_log.engine.audit.export(asked)


def test_pages_of_any_size_make_the_same_file(
    sqlite_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"since": EPOCH, "until": EPOCH + timedelta(days=4)}
    made = []
    for size in (1, 7, 5_000):
        monkeypatch.setattr(scope, "PAGE", size)
        monkeypatch.setattr(proofs, "_PAGE", size)
        monkeypatch.setattr(proofs, "_NODES", size)
        path = sqlite_log.exported("pages.jsonl", **asked)
        # The last entries of the period are younger than the last checkpoint.
        assert verify(path, "--key", sqlite_log.key)[0] == 3
        made.append([r for r in lines(path) if r["record"] in ("entry", "checkpoint")])
    assert made[0] == made[1] == made[2]


def test_progress_is_told_up_to_the_end(sqlite_log: Log) -> None:
    told: list[tuple[int, int]] = []
    sqlite_log.engine.audit.export(
        since=EPOCH, format="jsonl", on_progress=lambda done, total: told.append((done, total))
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0


# --- what the log says ----------------------------------------------------------------------------


def test_every_export_is_recorded_with_what_it_was(log: Log) -> None:
    path = log.folder / "out" / "run.json"
    done = log.engine.audit.export(log.run(), output=path, actor="ann", reason="a complaint")
    (event,) = recorded(log)
    assert event == e.LogExported(
        kind="export",
        format="json",
        through=done.through,
        entries=len(log.rows(log.run())),
        run_id=log.run(),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        target=str(path),
        personal_data=True,
    )
    assert (done.digest, done.target, done.entries) == (event.digest, event.target, event.entries)
    (entry,) = log.engine.audit.query(run_id=log.run(), actions=["log.exported"]).entries
    assert (entry.actor, entry.reason, entry.command) == ("ann", "a complaint", "export")
    content = log.engine.audit.bundle(contact_id="c3", actor="bob").content
    event = recorded(log)[-1]
    assert (event.kind, event.contact_id, event.target) == ("bundle", "c3", "")
    assert event.digest == hashlib.sha256(content or b"").hexdigest()
    content = log.engine.export_run(log.run(), target="there", actor="cleo", reason="a bug")
    event = recorded(log)[-1]
    assert (event.kind, event.run_id, event.personal_data) == ("run_file", log.run(), True)
    assert (event.digest, event.target) == (hashlib.sha256(content).hexdigest(), "there")
    log.engine.export_run(log.run(), personal_data=False)
    assert not recorded(log)[-1].personal_data


def test_queries_are_recorded_unless_they_are_about_one_run_or_contact(log: Log) -> None:
    log.engine.audit.query(run_id=log.run(), plan_id="outreach")
    log.engine.audit.query(contact_id="c3")
    log.engine.audit.get_by_run(log.run())
    assert recorded(log) == []
    page = log.engine.audit.query(
        plan_id="outreach", since=EPOCH, limit=5, asked_by="ann", purpose="a yearly review"
    )
    (event,) = recorded(log)
    assert (event.kind, event.entries, event.from_tick, event.digest) == (
        "query",
        page.total,
        0,
        "",
    )
    assert event.personal_data
    # The next page is the same question.
    log.engine.audit.query(plan_id="outreach", since=EPOCH, limit=5, cursor=page.next_cursor)
    assert len(recorded(log)) == 1
    assert all(entry.action != "log.exported" for entry in page.entries)
    (entry,) = log.engine.audit.query(actions=["log.exported"], contact_id=None, limit=5).entries
    assert (entry.actor, entry.reason, entry.command) == ("ann", "a yearly review", "query")
    with pytest.raises(InvalidInput):
        log.engine.audit.query(asked_by=" ")
    assert len(recorded(log)) == 2


def test_what_cannot_be_recorded_is_not_given_out(
    sqlite_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise AnchorUnavailable("the log cannot be written")

    monkeypatch.setattr(sqlite_log.engine._system_log, "record", refused)
    path, stream, run = sqlite_log.folder / "run.json", io.BytesIO(), sqlite_log.run()
    for call in (
        lambda: sqlite_log.engine.audit.export(run, output=path),
        lambda: sqlite_log.engine.audit.export(run, output=stream),
        lambda: sqlite_log.engine.audit.export(run),
        lambda: sqlite_log.engine.audit.bundle(run, output=path),
        lambda: sqlite_log.engine.audit.export(run, output="memory://refused/run.json"),
        lambda: sqlite_log.engine.export_run(run),
        lambda: sqlite_log.engine.audit.query(),
    ):
        with pytest.raises(AnchorUnavailable, match="cannot be written"):
            call()
    assert not path.exists()
    assert stream.getvalue() == b""
    assert not fsspec.filesystem("memory").exists("memory://refused/run.json")
    assert [each.name for each in sqlite_log.folder.iterdir() if each.suffix == ".part"] == []


# --- where they go --------------------------------------------------------------------------------


def test_a_file_is_its_owner_s_and_replaces_one_at_once(sqlite_log: Log) -> None:
    path = sqlite_log.folder / "run.json"
    path.write_text("old")
    path.chmod(0o644)
    sqlite_log.engine.audit.export(sqlite_log.run(), output=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["export"]["format"] == "dee-export/1"


def test_streams_and_urls(sqlite_log: Log) -> None:
    run, stream = sqlite_log.run(), io.BytesIO()
    sqlite_log.engine.audit.export(run, format="jsonl", output=stream)
    sqlite_log.engine.audit.export(
        run, format="jsonl", output="memory://user:secret@bucket/out/run.jsonl"
    )
    files = fsspec.filesystem("memory")
    (found,) = [name for name in files.find("/") if name.endswith("out/run.jsonl")]
    assert files.cat(found).startswith(b'{"record":"export"')
    assert stream.getvalue().startswith(b'{"record":"export"')
    first, second = recorded(sqlite_log)
    assert (first.target, "secret" in second.target) == ("stream", False)
    blocked = sqlite_log.folder / "file"
    blocked.write_text("x")
    with pytest.raises(AnchorUnavailable):
        sqlite_log.engine.audit.export(run, output=blocked / "in" / "run.json")


def test_bundles_of_the_same_moment_are_the_same_bytes(
    sqlite_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = sqlite_log.engine.health().position
    exports = sqlite_log.engine._exports
    monkeypatch.setattr(type(exports), "through", property(lambda _: through))
    made = {sqlite_log.engine.audit.bundle(sqlite_log.run(), actor="ann").content for _ in range(3)}
    assert len(made) == 1
    with zipfile.ZipFile(io.BytesIO(made.pop() or b"")) as bundle:
        times = {info.date_time for info in bundle.infolist()}
        sums = bundle.read("SHA256SUMS").decode().splitlines()
        assert {info.external_attr >> 16 for info in bundle.infolist()} == {0o100600}
        for line in sums:
            digest, name = line.split("  ")
            assert hashlib.sha256(bundle.read(name)).hexdigest() == digest
        assert "python verify_export.py" in bundle.read("README.txt").decode()
    assert len(times) == 1


def test_a_reason_tells_nothing_else_in_a_bundle(sqlite_log: Log) -> None:
    """It stands on one line of the README, and no terminal obeys it."""
    path = sqlite_log.folder / "run.zip"
    reason = "x\nScope:     the whole log\x1b[2J\u202e\r\u2028y"
    sqlite_log.engine.audit.bundle(sqlite_log.run(), output=path, reason=reason, actor="ann")
    with zipfile.ZipFile(path) as bundle:
        told = bundle.read("README.txt").decode()
    (line,) = [line for line in told.split("\n") if "the whole log" in line]
    assert line.startswith("Made for:  x")
    assert all(char.isprintable() for char in told if char != "\n")


@pytest.mark.parametrize("page", [7, 5_000])
def test_an_archived_run_is_proved_around_by_its_tombstones(
    sqlite_log: Log, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Also where what was archived is not in the first page of the log."""
    monkeypatch.setattr(proofs, "_PAGE", page)
    engine = sqlite_log.engine
    engine.run_until(30 * DAY)
    engine.audit.checkpoint()
    kept = engine.execute(engine.get_plan("outreach"), {"id": "new", "email": "n@example.com",
                                                        "firstName": "N"}).id  # fmt: skip
    old, only = sqlite_log.run(), sqlite_log.run("c1")
    done = engine.audit.archive(
        engine.now().now, place=str(sqlite_log.folder / "archives"), reason="old"
    )
    assert done.runs > 0
    engine.audit.checkpoint()
    with pytest.raises(RunNotFound, match="archive"):
        engine.audit.export(old)
    with pytest.raises(InvalidInput, match=f"archived; `dee archive export RUN` .* each: {only}$"):
        engine.audit.export(contact_id="c1")
    path = sqlite_log.exported("kept.jsonl", run_id=kept)
    assert lines(path)[-1]["problems"] == []
    code, said = verify(path, "--key", sqlite_log.key)
    assert code == 0, said
