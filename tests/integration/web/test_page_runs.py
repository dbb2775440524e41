"""The page of a run, what may be done with it, and with many at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.web.application import served
from tests.support.web.site import HTML, HTMX, Site, job_of
from tests.support.web.world import Page, furnish, open_world


def test_a_run_shows_its_way_at_any_version(site: Site) -> None:
    engine, run = site.world.engine, site.world.runs["lost"]
    last = engine.get_run(run).version
    for version in range(1, last + 1):
        text = site.page(f"/runs/{run}?version={version}").text
        stood = engine.run_at(run, version=version)
        assert f'data-version="{version}" data-last="{last}"' in text
        current = [part.split("</title>")[0] for part in text.split('<g class="step current')[1:]]
        assert len(current) == (1 if stood.run.current_step else 0)
        if stood.run.current_step:
            assert f"<title>{stood.run.current_step}: " in current[0]
        part = site.client.get(f"/runs/{run}/at?version={version}", headers=HTMX).text
        assert part.lstrip().startswith('<div id="moment"')
        assert Page(part).faults == []
    whole = site.page(f"/runs/{run}").text
    assert "Not taken: won." in whole
    assert "answered" in whole
    branch = next(t.version for t in engine.get_timeline(run) if t.action == "step.evaluated")
    assert "What the decision saw" in site.page(f"/runs/{run}?version={branch}").text
    sent_on = site.client.get(f"/runs/{run}/at?version=2", headers=HTML)
    assert sent_on.headers["location"] == f"/runs/{run}?version=2", "without scripts"
    assert "Version: must be" in Page(site.page(f"/runs/{run}?version=999", 422).text).text


@pytest.mark.parametrize("after", ["explain", "get_logs", "get_timeline"])
@pytest.mark.parametrize("headers", [HTML, HTMX])
def test_a_run_that_moves_while_it_is_looked_at_is_shown(
    acting: Site, monkeypatch: pytest.MonkeyPatch, after: str, headers: dict[str, str]
) -> None:
    engine, run = acting.world.engine, acting.world.runs["waiting"]
    ask, moved = getattr(engine, after), list[str]()

    def moving(run_id: str) -> Any:
        found = ask(run_id)
        moved.append(engine.pause_run(run_id).status.value)
        return found

    monkeypatch.setattr(engine, after, moving)
    path = f"/runs/{run}/at" if headers is HTMX else f"/runs/{run}"
    assert acting.client.get(path, headers=headers).status_code == 200
    assert moved == ["paused"]


def test_a_chain_is_verified_and_a_run_decided_again(site: Site) -> None:
    run = site.world.runs["lost"]
    part = site.client.get(f"/runs/{run}/verify", headers=HTMX).text
    entries = site.world.engine.get_run(run).version
    assert f"<strong>Verified</strong>: {entries} entries, unbroken" in part
    assert "Identical" in site.page(f"/runs/{run}/replay").text
    other = site.page(f"/runs/{run}/replay?plan_version=1").text
    assert "Different" in other
    assert "Against" in other
    assert "could not be compared" in site.page(f"/runs/{site.world.runs['erased']}/replay").text


def test_a_broken_chain_does_not_verify(tmp_path: Path) -> None:
    path = tmp_path / "dee.db"
    with open_world(f"sqlite:///{path}") as engine:
        world = furnish(engine)
        run = world.runs["lost"]
        with closing(sqlite3.connect(path)) as raw, raw:
            for (name,) in raw.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                raw.execute(f"DROP TRIGGER {name}")
            raw.execute(
                "UPDATE stored_events SET topic = 'RunPaused' "
                "WHERE originator_id = ? AND originator_version = 3",
                (run,),
            )
        with served(engine) as client:
            text = client.get(f"/runs/{run}/verify", headers=HTMX).text
            assert "Does not verify" in text
            assert "from entry 3 on" in text
            assert Site(world, client).page(f"/runs/{run}", 500)


@pytest.mark.parametrize(
    "name, verbs",
    [
        ("active", {"pause", "cancel"}),
        ("pending", {"pause", "cancel"}),
        ("paused", {"resume", "cancel"}),
        ("refused", {"retry", "cancel"}),
        ("unknown", {"resolve", "cancel"}),
        ("lost", set()),
        ("cancelled", set()),
    ],
)
def test_only_what_the_status_allows_is_offered(site: Site, name: str, verbs: set[str]) -> None:
    run = site.world.runs[name]
    forms = Page(site.page(f"/runs/{run}").text).forms
    offered = {form.rpartition("/")[2] for form in forms if form.startswith(f"/runs/{run}/")}
    assert offered - {"at", "replay"} == verbs


@pytest.mark.parametrize(
    "name, verb, fields, after",
    [
        ("active", "pause", {"keep": "remaining"}, "paused"),
        ("paused", "resume", {}, "active"),
        ("pending", "cancel", {"confirm": "yes"}, "cancelled"),
        ("refused", "retry", {"confirm": "yes"}, "active"),
        ("unknown", "resolve", {"confirm": "yes", "outcome": "delivered"}, "active"),
    ],
)
def test_an_action_acts_once_and_is_recorded(
    acting: Site, name: str, verb: str, fields: dict[str, str], after: str
) -> None:
    run, engine = acting.world.runs[name], acting.world.engine
    fields = {**fields, "reason": "because", "key": "k" * 20}
    answer = acting.send(f"/runs/{run}/{verb}", **fields)
    assert acting.status(name) == after
    done = answer.headers["location"]
    assert done.startswith(f"/runs/{run}?done=")
    assert 'role="status"' in acting.page(done).text
    entry = engine.get_timeline(run)[-1]
    assert (entry.actor, entry.reason) == ("robin", "because")
    acting.send(f"/runs/{run}/{verb}", **fields)
    assert engine.get_timeline(run)[-1].version == entry.version, "sent twice, it acted once"


@pytest.mark.parametrize("verb", ["cancel", "retry", "resolve"])
def test_a_reason_and_a_confirmation_are_asked_for(acting: Site, verb: str) -> None:
    run = acting.world.runs["unknown" if verb == "resolve" else "refused"]
    version = acting.world.engine.get_run(run).version
    given = {"outcome": "failed"} if verb == "resolve" else {}
    page = acting.send(f"/runs/{run}/{verb}", 422, confirm="yes", reason="  ", **given)
    assert "say why" in page.text.lower()
    page = acting.send(f"/runs/{run}/{verb}", 409, reason="because", **given)
    assert "Nothing was done" in page.text
    assert acting.world.engine.get_run(run).version == version


def test_a_transition_that_is_not_there_is_told_plainly(acting: Site) -> None:
    run = acting.world.runs["lost"]
    page = acting.send(f"/runs/{run}/pause", 409)
    assert "The run cannot change like that" in page.text
    assert "load the page again" in page.text


# --- many at once ---------------------------------------------------------------------------------


def test_many_runs_are_changed_after_a_preview_and_a_typed_number(acting: Site) -> None:
    engine = acting.world.engine
    path = "/runs/bulk/pause?plan=outreach"
    total = engine.list_runs(["pending", "active", "waiting"], "outreach").total
    assert total == 3
    assert engine.bulk_pause({"plan_id": "outreach"}, "why", dry_run=True).matched == total
    preview = acting.page(path).text
    assert f"Pause {total} runs" in preview
    assert preview.count('scope="row"') == total
    before = engine.metrics().position
    for wrong in ("", "2", "all", "33"):
        assert "Nothing was done" in acting.send(path, 409, confirm=wrong, reason="why").text
    assert "Say why" in acting.send(path, 409, confirm=str(total), reason=" ").text
    assert engine.metrics().position == before
    job = job_of(acting, acting.send(path, confirm=str(total), reason="on call"))
    none = {"errors": 0, "unchanged": []}
    assert job["result"] == {"matched": 3, "changed": 3, "dryRun": False, **none}
    assert engine.list_runs("paused").total == 4
    entries = engine.audit.query(actions=["run.paused"], text="on call").entries
    assert {(entry.actor, entry.reason) for entry in entries} == {("robin", "on call")}
    again = acting.send(path, 409, confirm=str(total), reason="on call")
    assert "No run would be changed" in again.text


def test_the_number_is_that_of_the_moment_it_is_sent(acting: Site) -> None:
    path = "/runs/bulk/cancel?status=paused"
    assert "Cancel 1 run" in acting.page(path).text
    acting.world.engine.pause_run(acting.world.runs["active"])
    said = acting.send(path, 409, confirm="1", reason="why").text
    assert "which is 2 now" in said
    job = job_of(acting, acting.send(path, confirm="2", reason="why"))
    assert job["result"]["cancelled"] == 2
    assert acting.status("active") == acting.status("paused") == "cancelled"


def test_resumed_runs_and_runs_without_a_filter(acting: Site) -> None:
    job = job_of(
        acting,
        acting.send("/runs/bulk/resume?status=paused", confirm="1", reason="go", per_tick="5"),
    )
    assert job["result"]["changed"] == 1
    assert acting.page("/runs/bulk/retry?status=failed").text.count("Retry") >= 2
    acting.send("/runs/bulk/retry?status=failed", 422, confirm="2", reason="again", per_tick="0")
    acting.send("/runs/bulk/retry?status=failed", confirm="2", reason="again", per_tick="1")
    assert "Filter the runs first" in acting.page("/runs/bulk/cancel", 422).text
    acting.send("/runs/bulk/cancel", 422, confirm="11", reason="all of them")
    assert acting.page("/runs/bulk/resume?status=failed").text.count("No run that matches") == 1
