"""The pages for people: what they show, and that nothing hostile acts in them."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import re

import pytest

from dee_es.errors import StoreUnavailable
from tests.support.web.application import MEANT
from tests.support.web.site import HTML, HTMX, Site
from tests.support.web.world import EVIL, Page, World


def addresses(world: World) -> list[str]:
    """Every page there is, at least once."""
    runs = [f"/runs/{run}" for run in world.runs.values()]
    return [
        "/runs",
        "/runs?status=failed&status=paused&limit=25",
        "/runs?after=30d&before=1h&plan=outreach&contact=c1",
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


@pytest.mark.parametrize(
    "path",
    [
        "/runs?contact=<script>alert(1)</script>&plan=%22%3E%3Cimg%20src=x%3E",
        "/runs/bulk/cancel?contact=<script>alert(1)</script>",
    ],
)
def test_hostile_filters_are_refused_and_do_not_act(site: Site, path: str) -> None:
    text = site.page(path, 422).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


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


def further(text: str) -> str:
    """Where the next page is."""
    return html.unescape(text.split('rel="next" href="')[1].split('"')[0])


@pytest.mark.parametrize(
    "path", ["/runs?limit=4&after=9d&before=0s", "/audit?search=1&limit=4&since=9d&until=0s"]
)
def test_pages_of_the_last_days_are_still_there_when_time_has_passed(
    acting: Site, path: str
) -> None:
    engine = acting.world.engine
    first = acting.page(path).text
    then = acting.page(further(first)).text
    engine.run_until(engine.now().tick + 3)
    assert acting.page(further(first)).text.count("<tr>") == then.count("<tr>") > 0
    acting.page(further(then))


def test_a_page_behind_the_last_one_says_so(acting: Site) -> None:
    """Whoever was on it has changed since the page before it was shown."""
    engine = acting.world.engine
    following = further(acting.page("/runs?status=active&limit=1").text)
    engine.bulk_cancel({"status": "active"}, "over")
    text = acting.page(following).text
    assert "There is nothing behind the last page." in text
    assert "matches" not in text
    assert 'rel="prev"' in text or "First page</a>" in text


@pytest.mark.parametrize("path", ["/runs?status=failed", "/audit?action=run.failed"])
def test_the_last_page_leads_to_none_behind_it(site: Site, path: str) -> None:
    text = site.page(f"{path}&limit=1").text
    for _ in range(10):
        if 'rel="next"' not in text:
            break
        text = site.page(further(text)).text
    assert 'rel="next"' not in text
    assert "There is nothing behind the last page." not in text


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
        (f"/plans/outreach?beside={'0' * 18}{'9' * 5_000}", "beside"),
    ],
)
def test_what_cannot_be_read_is_told_by_name(site: Site, path: str, field: str) -> None:
    page = Page(site.page(path, 422).text)
    assert field.lower() in page.text.lower()
    assert "Go back, correct that value, and try again." in page.text


# --- what goes wrong ------------------------------------------------------------------------------


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


def test_problems_of_the_database_are_seen_on_every_page(
    acting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = acting.world.engine
    text = acting.page("/plans").text
    assert "Healthy" in text
    assert 'aria-label="Problems"' not in text
    told = ("runs are due since <noon> and no worker is at work", "a second thing")
    ill = dataclasses.replace(engine.health(), ok=False, problems=told)
    monkeypatch.setattr(engine, "health", lambda: ill)
    whole = Page(acting.page("/health").text).text
    assert told[0] in whole
    assert told[1] in whole
    text = acting.page("/plans").text
    assert "2 problems" in text
    assert told[0] in Page(text).text
    assert "and 1 more" in text


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
        assert answer.headers["cache-control"] == "no-cache", "its content may be another soon"
        again = site.client.get(
            f"/static/{name}", headers={"if-none-match": answer.headers["etag"]}
        )
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")
    icon = site.client.get("/favicon.ico")
    assert (icon.status_code, icon.headers["location"]) == (308, "/static/mark.svg")
    css = site.client.get("/static/dee.css").text
    assert "url(" not in css
    assert "@import" not in css


@pytest.mark.parametrize("parts", ["0-9", ",".join(f"{2 * n}-{2 * n}" for n in range(5_000))])
def test_a_file_is_served_whole_whatever_parts_of_it_somebody_asks_for(
    site: Site, parts: str
) -> None:
    """A stranger may ask, and thousands of parts would each be looked for and read apart."""
    whole = site.client.get("/static/dee.css")
    answer = site.client.get("/static/dee.css", headers={"range": f"bytes={parts}"})
    assert (answer.status_code, answer.content) == (200, whole.content)
    assert answer.headers["accept-ranges"] == "none"


def test_static_files_of_a_page_may_be_kept_for_a_year(site: Site) -> None:
    text = site.page("/health").text
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
    assert len(found) == 4
    for address in found:
        answer = site.client.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        path, _, version = address.partition("?v=")
        digest = hashlib.sha256(answer.content).hexdigest()
        assert digest.startswith(version)
        assert len(version) >= 16
        for other in ("", "?v=", f"?v={version}0", f"?v={version}&v={version}", "?v=../x"):
            answer = site.client.get(f"{path}{other}")
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    missing = site.client.get(f"/static/nothing.css?v={version}")
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")
    for path in ("/runs", "/api/v1/runs", "/favicon.ico"):
        assert site.client.get(path).headers["cache-control"] == "no-store"
