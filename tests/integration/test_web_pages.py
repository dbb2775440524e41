"""The pages for people: what they show, that nothing hostile acts in them, and what they refuse."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dee_es.errors import StoreUnavailable
from tests.support.web import MEANT, PASSWORD, Client, served, with_users
from tests.support.web_world import EVIL, Page, World, furnish, open_world

HTML = {"accept": "text/html"}
HTMX = {"hx-request": "true"}


@dataclass
class Site:
    """A furnished database behind the application, for its only user."""

    world: World
    client: Client

    def page(self, path: str, status: int = 200, **headers: str) -> httpx.Response:
        """A page, checked to hold nothing that could act."""
        answer = self.client.get(path, headers={**HTML, **headers})
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert Page(answer.text).faults == [], path
        return answer

    def send(self, path: str, status: int = 303, **fields: Any) -> httpx.Response:
        """Send a form as a browser would, with a key of its own."""
        fields = {"key": secrets.token_urlsafe(18), **fields}
        answer = self.client.post(path, data=fields, headers={**HTML, **MEANT})
        assert answer.status_code == status, (answer.status_code, answer.text[:2000])
        return answer

    def status(self, name: str) -> str:
        """How a run stands."""
        return self.world.engine.get_run(self.world.runs[name]).status.value


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Site]:
    """For tests that only read."""
    folder = tmp_path_factory.mktemp("pages")
    url = ":memory:" if request.param == "memory" else f"sqlite:///{folder / 'dee.db'}"
    with open_world(url) as engine:
        world = furnish(engine)
        with served(engine) as client:
            yield Site(world, client)


@pytest.fixture
def acting() -> Iterator[Site]:
    """For tests that change something."""
    with open_world() as engine:
        world = furnish(engine)
        with served(engine) as client:
            yield Site(world, client)


def addresses(world: World) -> list[str]:
    """Every page there is, at least once."""
    runs = [f"/runs/{run}" for run in world.runs.values()]
    return [
        "/runs",
        "/runs?status=failed&status=paused&limit=25",
        "/runs?after=30d&before=1h&plan=outreach&contact=c1",
        "/runs?contact=<script>alert(1)</script>&plan=%22%3E%3Cimg%20src=x%3E",
        "/runs/bulk/cancel?contact=<script>alert(1)</script>",
        "/runs/bulk/cancel?plan=outreach",
        "/runs/bulk/pause?plan=outreach",
        "/runs/bulk/resume?status=paused",
        *runs,
        *[f"{run}?version=1" for run in runs],
        *[f"{run}/verify" for run in runs],
        *[f"{run}/replay" for run in runs],
        f"{runs[0]}/replay?plan_version=1",
        "/contacts",
        *[f"/contacts/c{n}" for n in range(9)],
        "/contacts/c5?at=2d",
        "/contacts/nobody",
        "/plans",
        "/plans/outreach",
        "/plans/outreach?version=1&beside=2",
        "/audit",
        "/audit?search=1",
        "/report",
        "/audit?limit=200&action=run.paused&action=run.cancelled",
        "/audit?contact=c5&since=30d&until=0s&text=script",
        "/projections",
        "/jobs",
        "/health",
    ]


def test_every_page_is_there_and_nothing_hostile_acts_in_it(site: Site) -> None:
    for path in addresses(site.world):
        answer = site.page(path)
        assert "<script>alert" not in answer.text, path
        assert "<img src=x" not in answer.text, path


def test_hostile_texts_are_shown_as_they_are(site: Site) -> None:
    evil = EVIL.split("{{", maxsplit=1)[0]
    for path, often in [
        (f"/runs/{site.world.runs['won']}", 1),
        (f"/runs/{site.world.runs['paused']}", 5),
        ("/contacts/c0", 4),
        ("/plans/outreach?beside=0", 2),
        ("/audit?action=run.paused", 2),
    ]:
        assert Page(site.page(path).text).text.count(evil) >= often, path


def test_the_mail_is_shown_as_text_and_in_a_frame_that_cannot_act(site: Site) -> None:
    page = Page(site.page(f"/runs/{site.world.runs['won']}").text)
    assert page.nested, "the message has HTML"
    frame = page.nested[0]
    assert "Hello Ada" in frame.text
    assert (frame.links, frame.forms) == ([], [])
    assert "https://tracker.example/p.gif" in page.text, "the source is shown as text"


def test_the_start_leads_to_the_runs(site: Site) -> None:
    answer = site.client.get("/", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")


# --- runs -----------------------------------------------------------------------------------------


def counts(text: str) -> dict[str, int]:
    """The counters of the runs page."""
    found = {}
    for part in text.split('class="word">')[1:]:
        word = Page(part.split("</span>")[0]).text.strip()
        found[word] = int(part.split('class="count num">')[1].split("<")[0].replace(",", ""))
    return found


def test_counters_and_totals_are_those_of_the_engine(site: Site) -> None:
    engine = site.world.engine
    for query, filters in [
        ("", {}),
        ("?plan=outreach", {"plan_id": "outreach"}),
        ("?contact=c5", {"contact_id": "c5"}),
        ("?status=paused&status=failed", {"status": ["paused", "failed"]}),
        ("?status=cancelled&contact=c5", {"status": "cancelled", "contact_id": "c5"}),
        ("?plan=nothing", {"plan_id": "nothing"}),
        ("?after=1h", {"started_after": engine.now().now.replace(minute=0)}),
    ]:
        text = site.page(f"/runs{query}").text
        expected = engine.list_runs(**filters).total  # type: ignore[arg-type]
        said = text.split('<p class="total"><strong class="num">')[1].split("<")[0]
        if "after" not in query:
            assert int(said) == expected, query
        found = counts(text)
        assert found.pop("all") == sum(found.values())
        without = {name: value for name, value in filters.items() if name != "status"}
        if "after" not in query:
            assert found == {
                status: engine.list_runs(**{**without, "status": status}).total  # type: ignore[arg-type]
                for status in found
            }


def test_times_narrow_the_list(site: Site) -> None:
    def total(query: str) -> int:
        text = site.page(f"/runs?{query}").text
        return int(text.split('<p class="total"><strong class="num">')[1].split("<")[0])

    assert total("after=1h") == 2, "two were enrolled after the three days"
    assert total("before=1h") == 9
    assert total("before=2026-01-01") == 0
    assert total("after=2026-01-01&before=2026-01-02+00:00") == 9


def test_filters_stay_in_the_form_and_in_every_link(site: Site) -> None:
    page = site.page("/runs?status=failed&plan=outreach&after=30d&limit=25").text
    assert 'value="outreach"' in page
    assert 'value="30d"' in page
    assert '<input type="hidden" name="status" value="failed">' in page
    links = Page(page).links
    assert "/runs?status=failed&status=paused&plan=outreach&after=30d&limit=25" in links
    assert "/runs?plan=outreach&after=30d&limit=25" in links, "the chosen one takes itself away"
    assert "/runs/bulk/cancel?status=failed&plan=outreach&after=30d" in links


def test_pages_hold_every_run_once_and_lead_back(site: Site) -> None:
    path, found, seen = "/runs?limit=4", [], []
    while path:
        text = site.page(path).text
        seen.append(path)
        found += [part.split('"')[0] for part in text.split('title="run_')[1:]]
        following = [part for part in text.split("<a ") if part.startswith('class="button" rel="n')]
        path = (
            following[0].split('href="')[1].split('"')[0].replace("&amp;", "&") if following else ""
        )
    everything = [run.id.removeprefix("run_") for run in site.world.engine.list_runs().runs]
    assert found == everything
    assert len(seen) == 3
    last = site.page(seen[-1]).text
    assert "9–11 of 11" in last
    back = last.split('rel="prev" href="')[1].split('"')[0].replace("&amp;", "&")
    middle = site.page(back).text
    assert "5–8 of 11" in middle
    first = middle.split('rel="prev" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "1–4 of 11" in site.page(first).text


@pytest.mark.parametrize(
    "path, field",
    [
        ("/runs?status=sleeping", "status"),
        ("/runs?after=yesterday", "after"),
        ("/runs?limit=0", "limit"),
        ("/runs?limit=1000000", "limit"),
        ("/runs?cursor=nonsense", "cursor"),
        ("/audit?since=soon", "since"),
        ("/audit?action=nothing", "actions"),
        ("/contacts/c1?at=never", "at"),
        ("/plans/outreach?version=9", "version"),
    ],
)
def test_what_cannot_be_read_is_told_by_name(site: Site, path: str, field: str) -> None:
    page = Page(site.page(path, 422).text)
    assert field.lower() in page.text.lower()
    assert "Go back, correct that value, and try again." in page.text


# --- a run ----------------------------------------------------------------------------------------


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


def job_of(acting: Site, answer: httpx.Response) -> dict[str, Any]:
    place = answer.headers["location"]
    for _ in range(2_000):
        job: dict[str, Any] = acting.client.get(f"/api/v1{place}").json()
        if job["state"] not in ("queued", "running"):
            text = acting.page(place).text
            part = acting.client.get(place, headers=HTMX).text
            assert part.lstrip().startswith('<section id="job"')
            assert "hx-get" not in part, "an ended job is not asked about again"
            assert "What came of it" in text
            return job
    raise AssertionError(job)


def test_many_runs_are_changed_after_a_preview_and_a_typed_number(acting: Site) -> None:
    engine = acting.world.engine
    path = "/runs/bulk/pause?plan=outreach"
    total = engine.list_runs(["pending", "active", "waiting"], "outreach").total
    assert total == 3
    preview = acting.page(path).text
    assert f"Pause {total} runs" in preview
    assert preview.count('scope="row"') == total
    before = engine.metrics().position
    for wrong in ("", "2", "all", "33"):
        assert "Nothing was done" in acting.send(path, 409, confirm=wrong, reason="why").text
    assert "Say why" in acting.send(path, 409, confirm=str(total), reason=" ").text
    assert engine.metrics().position == before
    job = job_of(acting, acting.send(path, confirm=str(total), reason="on call"))
    assert job["result"] == {"matched": 3, "changed": 3, "errors": 0, "dryRun": False}
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
    assert "Filter the runs first" in acting.page("/runs/bulk/cancel", 422).text
    acting.send("/runs/bulk/cancel", 422, confirm="11", reason="all of them")
    assert acting.page("/runs/bulk/resume?status=failed").text.count("No run that matches") == 1


# --- contacts, plans, audit, projections ----------------------------------------------------------


def test_a_contact_as_of_a_date(site: Site) -> None:
    now = site.page("/contacts/c5").text
    assert "global" in now
    assert "granted" in now
    assert "contact.suppressed" in now
    then = site.page("/contacts/c5?at=2025-12-31", 422).text
    assert "lies before" in then
    start = site.page("/contacts/c5?at=2026-01-01+00:00").text
    assert "run.cancelled" in start
    assert "Shown as of 2026-01-01 00:00:00 UTC" in start


def test_a_contact_is_found_by_id_or_address(site: Site) -> None:
    def found(**fields: str) -> str:
        answer = site.client.post("/contacts", data=fields, headers={**HTML, **MEANT})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    assert found(contact=" c5 ") == "/contacts/c5"
    by_address = found(email="somebody@example.com")
    assert "somebody" not in by_address
    assert (
        by_address == f"/contacts/{site.world.engine.contact_id_for(email='somebody@example.com')}"
    )


def test_suppressing_and_lifting(acting: Site) -> None:
    engine = acting.world.engine
    acting.send("/contacts/c0/suppress", level="channel", channel="email", reason="asked for it")
    assert engine.contact_at("c0").suppressions == ("channel email",)
    assert "channel email" in acting.page("/contacts/c0").text
    again = acting.send("/contacts/c0/suppress", level="channel", channel="email", reason="again")
    assert again.headers["location"].endswith("done=suppressed-already")
    acting.send("/contacts/c0/unsuppress", level="channel", channel="email", reason="changed")
    assert engine.contact_at("c0").suppressions == ()
    for wrong in ({"level": "channel"}, {"level": "plan"}, {"level": "moon"}, {"reason": " "}):
        acting.send("/contacts/c0/suppress", 422, **{"reason": "why", **wrong})
    assert engine.contact_at("c0").suppressions == ()


def test_erasing_takes_the_id_typed_and_shows_the_certificate(acting: Site) -> None:
    engine = acting.world.engine
    assert EVIL[:20] in Page(acting.page("/contacts/c0").text).text
    for typed in ("", "c", "C0", "c00"):
        acting.send("/contacts/c0/erase", 409, confirm=typed, reason="asked to")
    assert EVIL[:20] in Page(acting.page("/contacts/c0").text).text, "nothing was done"
    acting.send("/contacts/c0/erase", 422, confirm="c0", reason="")
    page = acting.send("/contacts/c0/erase", 200, confirm="c0", reason="asked to")
    assert Page(page.text).faults == []
    assert "dee-erasure/1" in page.text
    assert "The key to its personal data is destroyed." in page.text
    text = Page(acting.page("/contacts/c0").text).text
    assert EVIL[:20] not in text
    assert "the contact was erased" in text
    assert (
        engine.audit.query(actions=["contact.erased"], contact_id="c0").entries[-1].actor == "robin"
    )
    assert "nobody can read this message" in acting.page(f"/runs/{acting.world.runs['lost']}").text


def test_a_plan_in_numbers_and_beside_its_former_version(site: Site) -> None:
    page = site.page("/plans/outreach").text
    numbers = {each.step_id: each for each in site.world.engine.step_funnel("outreach", 2)}
    for step, found in numbers.items():
        row = page.split(f'<th scope="row"><span class="mono">{step}</span>')[1].split("</tr>")[0]
        told = [
            int(cell.split("<")[0].split(">")[-1].replace(",", ""))
            for cell in row.split('class="right num')[1:]
        ]
        assert told == [
            found.entered,
            found.sent,
            found.skipped,
            found.deferred,
            found.failed,
            found.exited,
            found.in_progress,
        ]
    assert "rejected" in page, "the reasons are told"
    assert "Version 1 beside version 2" in page
    assert "days&#34;: 2" in page
    assert "days&#34;: 3" in page
    assert "beside version" not in site.page("/plans/outreach?beside=0").text


def test_the_audit_trail_is_searched_by_every_filter(site: Site) -> None:
    query = site.world.engine.audit.query

    def total(path: str) -> int:
        text = site.page(path).text
        found = text.split('<p class="total"><strong class="num">')[1].split("<")[0]
        return int(found.replace(",", ""))

    run = site.world.runs["paused"]
    assert total(f"/audit?run={run}") == query(run).total
    assert total("/audit?contact=c5") == query(contact_id="c5").total
    assert total("/audit?plan=outreach&action=run.failed") == 2
    assert total("/audit?contact=c5&text=ALERT") == query(contact_id="c5", text="alert").total > 0
    assert total("/audit?since=1h&action=run.started") == 1
    assert total("/audit?until=2026-01-01") == 0
    assert total("/audit?actor=nobody") == 0
    everything = total("/audit?search=1")
    seen, path = 0, "/audit?search=1&limit=40&until=0s"
    while path:
        text = site.page(path).text
        seen += text.count('data-label="Position"')
        following = text.split('rel="next" href="')
        path = following[1].split('"')[0].replace("&amp;", "&") if len(following) > 1 else ""
    assert 0 < seen < everything, "what happens in this very tick is not before it"
    said = text.split('aria-label="Pages"')[1].split('class="num">')[1]
    assert seen == int(said.split(" of ")[1].split(",")[0])


def test_a_search_is_put_on_record_once_and_only_when_asked(acting: Site) -> None:
    engine = acting.world.engine

    def recorded() -> int:
        return engine.metrics().position

    before = recorded()
    assert "itself put on record" in acting.page("/audit").text
    acting.page("/audit?contact=c5")
    assert recorded() == before, "nothing, or one contact alone"
    text = acting.page("/audit?search=1&limit=5").text
    assert recorded() == before + 1
    acting.page(text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&"))
    assert recorded() == before + 1, "the next page belongs to the same search"
    (entry,) = engine.audit.get_at(before + 1)
    assert (entry.action, entry.actor) == ("log.exported", "robin")


def test_entries_are_given_out_and_reported_on(acting: Site) -> None:
    run, client = acting.world.runs["lost"], acting.client
    for wrong in ({"reason": ""}, {"format": "exe"}, {"since": "soon"}, {"run": "a b"}):
        acting.send("/audit/export", 422, **{"run": run, "reason": "asked", **wrong})
    job = job_of(acting, acting.send("/audit/export", run=run, format="jsonl", reason="asked"))
    assert job["state"] == "done", job
    assert f'href="{job["file"]}"' in acting.page(f"/jobs/{job['id']}").text
    content = client.get(job["file"]).text
    assert run in content
    assert "b@example.com" not in content, "personal data is given out only if that is ticked"
    acting.send("/report", 422, since="")
    acting.send("/report", 422, since="30d", include="nothing")
    made = acting.send("/report", since="2026-01-01", format="md", include=["sends", "consent"])
    job = job_of(acting, made)
    assert job["state"] == "done", job
    assert "Compliance report" in client.get(job["file"]).text
    assert f"/jobs/{job['id']}" in acting.page("/report").text


def test_the_log_is_verified_signed_and_proven(acting: Site) -> None:
    run = acting.world.runs["lost"]
    place = f"/audit/proof?stream={run}&entry=2"
    assert "checkpoint" in acting.page(place, 422).text
    acting.send("/audit/checkpoint")
    assert "checkpoint.signed" in acting.page("/audit?action=checkpoint.signed").text
    proof = acting.client.get(place, headers=HTML)
    assert proof.headers["content-disposition"].startswith("attachment")
    assert (proof.json()["stream"], proof.json()["version"]) == (run, 2)
    job = job_of(acting, acting.send("/audit/verify"))
    assert (job["state"], job["result"]["valid"]) == ("done", True)
    assert "under a checkpoint through" in acting.page(f"/runs/{run}/verify").text


def test_projections_are_verified_and_rebuilt(acting: Site) -> None:
    page = acting.page("/projections").text
    for name in acting.world.engine.projections.names:
        assert name in page
    assert job_of(acting, acting.send("/projections/run_list/verify"))["result"]["ok"] is True
    job = job_of(acting, acting.send("/projections/step_funnel/rebuild", throttle="0.9"))
    assert job["state"] == "done"
    assert "events," in acting.page("/projections").text
    acting.send("/projections/nothing/rebuild", 404)
    assert acting.page("/jobs").text.count('href="/jobs/job_') == 2


# --- who may, and what goes wrong -----------------------------------------------------------------

VIEWED = (
    "/report",
    "/runs",
    "/contacts/c0",
    "/audit",
    "/projections",
    "/plans/outreach",
    "/health",
    "/jobs",
)


def signed_in(client: Client, name: str) -> str:
    """Sign in; the token of the session's forms."""
    client.cookies.clear()
    form = {"name": name, "password": PASSWORD}
    answer = client.post("/login", data=form, headers={**HTML, **MEANT})
    assert answer.status_code == 303, answer.text
    cookie = answer.headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    name_, _, value = cookie.partition("=")
    client.cookies.set(name_, value)
    page = client.get("/runs", headers=HTML).text
    return page.split('name="csrf_token" value="')[1].split('"')[0]


def test_roles_hide_and_refuse_actions_and_forms_need_their_token(tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path)
    with open_world() as engine:
        world = furnish(engine)
        run = world.runs["active"]
        admin = {f"/runs/{run}/cancel", "/contacts/c0/erase", "/projections/run_list/rebuild"}
        acts = {
            "/audit/export",
            "/report",
            "/audit/verify",
            "/audit/checkpoint",
            "/projections/run_list/verify",
            "/contacts/c0/suppress",
            f"/runs/{run}/pause",
        }
        own = {f"/runs/{run}/cancel"}
        with served(engine, settings) as client:
            answer = client.get("/runs", headers=HTML)
            assert answer.headers["location"] == "/login?next=/runs"
            offered: dict[str, set[str]] = {}
            for role in ("viewer", "operator", "admin"):
                token = signed_in(client, role)
                forms: list[str] = []
                for path in (*VIEWED, f"/runs/{run}"):
                    answer = client.get(path, headers=HTML)
                    assert answer.status_code == 200, (role, path)
                    assert f'<span class="name">{role}</span>' in answer.text
                    forms += Page(answer.text).forms
                offered[role] = (acts | admin) & set(forms)
                assert "/logout" in forms
                assert (client.get("/runs/bulk/cancel?status=failed", headers=HTML).status_code
                        == (403 if role == "viewer" else 200))  # fmt: skip
                _refusals(client, role, token, (acts | admin) - offered[role])
            assert offered == {
                "viewer": set(),
                "operator": acts | own,
                "admin": acts | admin,
            }
            assert engine.get_run(run).status == "active", "nothing of that did anything"
            token = signed_in(client, "operator")
            form = {"key": "k" * 20, "csrf_token": token}
            assert client.post(f"/runs/{run}/pause", data=form, headers=HTML).status_code == 303
            assert engine.get_timeline(run)[-1].actor == "operator"


def _refusals(client: Client, role: str, token: str, paths: set[str]) -> None:
    for path in paths:
        form = {"key": "k" * 20, "csrf_token": token, "reason": "x", "confirm": "yes"}
        answer = client.post(path, data=form, headers=HTML)
        assert answer.status_code == 403, (role, path)
        assert "Ask somebody with the role that is needed" in answer.text
    for given in ({}, {"csrf_token": "x"}, {"csrf_token": token[:-1]}):
        answer = client.post("/audit/verify", data={"key": "k" * 20, **given}, headers=HTML)
        assert answer.status_code == 403
        assert "open for too long" in answer.text
        assert Page(answer.text).faults == []


def test_problems_are_pages_for_people_and_json_for_programs(site: Site) -> None:
    page = Page(site.page("/runs/run_nothing", 404).text)
    assert "There is no such run" in page.text
    assert "Check the address" in page.text
    assert "There is nothing at this address" in Page(site.page("/nowhere", 404).text).text
    assert site.page("/plans/nothing", 404)
    assert site.page("/jobs/nothing", 404)
    answer = site.client.post("/plans", headers={**HTML, **MEANT})
    assert answer.status_code == 405
    assert "use the buttons" in answer.text
    api = site.client.get("/api/v1/runs/run_nothing", headers=HTML)
    assert api.headers["content-type"] == "application/problem+json"
    assert (
        site.client.get("/runs/run_nothing").headers["content-type"] == "application/problem+json"
    )
    part = site.client.get("/runs/run_nothing/verify", headers=HTMX)
    assert part.status_code == 404
    assert part.text.lstrip().startswith('<div class="banner bad" role="alert">')


def test_a_database_that_does_not_answer(acting: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database does not answer; is the server running?")

    monkeypatch.setattr(acting.world.engine, "list_runs", down)
    answer = acting.client.get("/runs", headers=HTML)
    assert answer.status_code == 503
    assert "Nothing was lost" in answer.text
    assert answer.headers["retry-after"] == "1"
    monkeypatch.setattr(acting.world.engine, "health", down)
    monkeypatch.setattr(acting.world.engine, "metrics", down)
    assert "database does not answer" in acting.client.get("/jobs", headers=HTML).text.lower()


def test_problems_of_the_database_are_seen_on_every_page(acting: Site) -> None:
    text = acting.page("/plans").text
    assert "Healthy" in text
    assert 'aria-label="Problems"' not in text


def test_static_files_are_whole_and_nothing_comes_from_elsewhere(site: Site) -> None:
    for name, kind in [
        ("dee.css", "text/css"),
        ("dee.js", "javascript"),
        ("htmx.min.js", "javascript"),
        ("mark.svg", "svg"),
        ("htmx.LICENSE.txt", "text/plain"),
    ]:
        answer = site.client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
    icon = site.client.get("/favicon.ico")
    assert (icon.status_code, icon.headers["location"]) == (308, "/static/mark.svg")
    css = site.client.get("/static/dee.css").text
    assert "url(" not in css
    assert "@import" not in css
