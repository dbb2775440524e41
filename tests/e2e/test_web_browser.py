"""The pages in a real browser: every page and every button, at a desk and on a telephone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from playwright.sync_api import expect

from dee_es import Engine
from tests.support.counts import FULL, count
from tests.support.storage.postgres import new_database
from tests.support.versions.code import BrokenRunList
from tests.support.web.application import PASSWORD, with_users
from tests.support.web.browser import Heard, Visitor, visiting
from tests.support.web.listening import listening
from tests.support.web.world import World, furnish, open_world

RUNS = count(120, 1_000)
SOUND = 10**9
FAULTY = BrokenRunList(SOUND)
"""A run list that can be broken for a while, and hits nothing until then."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"] if FULL else ["sqlite"])
def world(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[World]:
    """A database of many runs, hostile texts among them."""
    folder = tmp_path_factory.mktemp("browser")
    changed = {"INLINE": (FAULTY,), "RUN_LIST": FAULTY}
    with ExitStack() as made:
        url = f"sqlite:///{folder / 'dee.db'}"
        if request.param == "postgres":
            url = made.enter_context(new_database(request.getfixturevalue("postgres_url")))
        made.enter_context(patch.multiple("dee_es.bootstrap.engine", **changed))
        engine = made.enter_context(open_world(url, folder))
        yield furnish(engine, RUNS)


@pytest.fixture(scope="module")
def base(world: World, tmp_path_factory: Any) -> Iterator[str]:
    """The application, for users who sign in."""
    folder: Path = tmp_path_factory.mktemp("users")
    settings, _ = with_users(folder)
    with listening(world.engine, settings) as address:
        yield address


def sign_in(visitor: Visitor, name: str = "admin") -> None:
    """Sign in by the form."""
    visitor.go("/runs")
    visitor.page.get_by_label("Name").fill(name)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.press("Sign in")
    assert visitor.page.url == f"{visitor.base}/runs"


def looked_at(world: World) -> list[str]:
    """Every kind of page."""
    run = world.runs
    return [
        "/runs",
        "/runs/bulk/cancel?status=waiting",
        "/runs/bulk/resume?status=paused",
        "/runs/bulk/retry?status=failed",
        f"/runs/{run['won']}",
        f"/runs/{run['unknown']}",
        f"/runs/{run['erased']}",
        f"/runs/{run['won']}/verify",
        f"/runs/{run['won']}/replay?plan_version=1",
        "/contacts",
        "/contacts/c5",
        "/plans",
        "/plans/outreach",
        "/audit?limit=25",
        "/report",
        "/projections",
        "/jobs",
        "/health",
        "/enroll",
        "/time-zone",
    ]


@pytest.mark.parametrize("width, height", [(1440, 1000), (360, 740)])
def test_every_page_can_be_read_by_everybody(
    world: World, base: str, width: int, height: int
) -> None:
    heard, faults = Heard(), list[str]()
    with visiting(base, heard, width, height) as visitor:
        visitor.go("/runs")
        faults += visitor.faults() + visitor.in_the_dark()
        sign_in(visitor)
        for path in looked_at(world):
            visitor.go(path)
            faults += visitor.faults()
            if width == 1440:
                faults += visitor.in_the_dark()
            assert visitor.fits(), f"{path} is wider than {width} px"
    assert (faults, heard.complaints, heard.elsewhere) == ([], [], [])


def test_every_button_does_what_it_says(world: World, base: str) -> None:
    heard = Heard()
    with visiting(base, heard, 1440, 1000) as visitor:
        sign_in(visitor)
        _one_run(visitor, world)
        _history(visitor, world)
        _many_runs(visitor, world.engine)
        _failed_runs(visitor, world.engine)
        _contacts(visitor, world.engine)
        _evidence(visitor, world.runs["won"])
        _a_file(visitor, world.engine)
        _parked(visitor, world.engine)
        _an_endless_job(visitor, world.engine)
        _zone(visitor)
        for path in looked_at(world):
            visitor.go(path)
        visitor.press("Sign out", "header")
        assert visitor.page.url.endswith("/login")
    assert (heard.complaints, heard.elsewhere) == ([], [])
    assert heard.buttons == PRESSED
    _recorded(world)


PRESSED = {
    "Sign in",
    "Sign out",
    "Filter",
    "Search",
    "Show",
    "Pause this run",
    "Resume this run",
    "Cancel this run",
    "Retry this run",
    "Settle the send",
    "Decide it again",
    "Pause runs",
    "Resume runs",
    "Retry run",
    "Cancel runs",
    "Suppress this contact",
    "Lift the suppression",
    "Erase this contact",
    "Verify the whole log",
    "Sign a checkpoint",
    "Export",
    "Make the report",
    "Verify",
    "Rebuild",
    "Record the consent",
    "Record that it was taken back",
    "Look at the file",
    "Enroll these contacts",
    "Retry",
    "Retry all of run_list",
    "End it after this batch",
    "Show times so",
}
"""All buttons that pages may show here; each is pressed below."""


def _one_run(visitor: Visitor, world: World) -> None:
    def act(name: str, button: str, done: str, **fields: str) -> None:
        visitor.go(f"/runs/{world.runs[name]}")
        form = visitor.page.locator("form", has=visitor.page.get_by_role("button", name=button))
        form.get_by_label("Reason").fill("in a browser")
        for label in fields.values():
            form.get_by_label(label, exact=True).check()
        visitor.press(button)
        assert done in visitor.page.locator(".banner.good").inner_text()

    act("active", "Pause this run", "paused")
    act("active", "Resume this run", "resumed")
    act("active", "Cancel this run", "cancelled", confirm="End this run for good")
    act("refused", "Retry this run", "retried", confirm="The cause is gone")
    act(
        "unknown",
        "Settle the send",
        "settled",
        outcome="It arrived",
        confirm="I found out what became of it",
    )


def _history(visitor: Visitor, world: World) -> None:
    run, page = world.runs["replied"], visitor.page
    last = world.engine.get_run(run).version
    visitor.go(f"/runs/{run}")
    page.wait_for_selector("#verified.is-ok")
    slider = page.locator("#version")
    slider.focus()
    for version in (last - 1, last - 2):
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(f"#moment[data-version='{version}']")
    page.keyboard.press("Home")
    page.wait_for_selector("#moment[data-version='1']")
    assert page.evaluate("document.activeElement.id") == "version", "the slider keeps the focus"
    page.get_by_role("link", name="After").click()
    page.wait_for_selector("#moment[data-version='2']")
    page.wait_for_url(f"**/runs/{run}?version=2")
    expect(page.locator(".timeline tr.here th")).to_have_text("2")
    page.get_by_role("link", name="Before").click()
    page.wait_for_selector("#moment[data-version='1']")
    page.select_option("#plan_version", "1")
    visitor.press("Decide it again")
    page.wait_for_selector("#replayed .state")
    frame = page.frame_locator("iframe.mail").first
    visitor.look()
    assert "Hello" in frame.locator("body").inner_text()
    assert frame.locator("script, img, a").count() == 0


def _many_runs(visitor: Visitor, engine: Engine) -> None:
    page = visitor.page
    for verb, status, total in (
        ("Pause", "waiting", engine.list_runs("waiting").total),
        ("Resume", "paused", engine.list_runs("waiting").total + 1),
        ("Cancel", "waiting", 0),
    ):
        visitor.go("/runs")
        page.get_by_label("Contact").fill("")
        page.get_by_label("Rows").select_option("25")
        page.get_by_role("button", name="Filter").click()
        page.locator(".counters").get_by_text(status).click()
        page.wait_for_url(f"**status={status}*")
        found = engine.list_runs(status).total
        assert found == (total or found) > 25
        page.get_by_role("link", name="Next").click()
        page.wait_for_url("**cursor=*")
        page.get_by_role("link", name="Previous").click()
        page.get_by_role("link", name=f"{verb} …").click()
        button = page.locator("main button.primary")
        visitor.look()
        expect(button).to_be_disabled()
        page.get_by_label("Reason").fill("many at once")
        page.get_by_label("Type the number").fill(str(found - 1))
        expect(button).to_be_disabled()
        page.get_by_label("Type the number").fill(f"{found:,}")
        button.click()
        page.wait_for_url("**/jobs/*")
        page.get_by_text("What came of it", exact=True).wait_for()
        assert engine.list_runs(status).total == 0
        if verb == "Resume":
            engine.run_until(engine.now().tick + 10)


def _failed_runs(visitor: Visitor, engine: Engine) -> None:
    page = visitor.page
    # The one that was retried alone was refused again.
    assert engine.list_runs("failed").total == 1
    visitor.go("/runs?status=failed")
    page.get_by_role("link", name="Retry …").click()
    visitor.look()
    page.get_by_label("Reason").fill("the cause is gone")
    page.get_by_label("Type the number").fill("1")
    page.locator("main button.primary").click()
    page.wait_for_url("**/jobs/*")
    page.get_by_text("What came of it", exact=True).wait_for()
    assert engine.list_runs("failed").total == 0


def _contacts(visitor: Visitor, engine: Engine) -> None:
    page = visitor.page
    visitor.go("/contacts")
    page.get_by_label("Contact id").fill("c1003")
    visitor.press("Show")
    assert page.url.endswith("/contacts/c1003")
    for button, field in (
        ("Suppress this contact", "suppress"),
        ("Lift the suppression", "unsuppress"),
    ):
        visitor.look()
        page.locator(f"#{field}-level").select_option("channel")
        page.locator(f"#{field}-channel").select_option("email")
        page.locator(f"#{field}-reason").fill("in a browser")
        visitor.press(button)
        assert page.locator(".banner.good").is_visible()
    for verb, button, done in (
        ("grant", "Record the consent", "The consent is on record"),
        ("revoke", "Record that it was taken back", "taken back"),
    ):
        visitor.look()
        page.locator(f"#{verb}-purpose").fill("news")
        page.locator(f"#{verb}-reason").fill("in a browser")
        if verb == "grant":
            page.locator("#grant-expires").fill("2031-02-03")
            page.locator("#grant-source").fill("a form")
        visitor.press(button)
        assert done in page.locator(".banner.good").inner_text()
    visitor.look()
    page.locator("#erase-reason").fill("in a browser")
    erase = page.get_by_role("button", name="Erase this contact")
    page.locator("#erase-confirm").fill("c1002")
    expect(erase).to_be_disabled()
    page.locator("#erase-confirm").fill("c1003")
    erase.click()
    page.get_by_role("heading", name="The contact was erased").wait_for()
    assert "dee-erasure/1" in page.locator("pre.body").inner_text()
    visitor.go("/contacts/c1003")
    page.get_by_label("As of").fill("2026-01-01 00:00")
    visitor.press("Show")
    assert "at=2026-01-01" in page.url
    assert engine.contact_at("c1003").suppressions == ("regulatory",)


def _evidence(visitor: Visitor, run: str) -> None:
    page = visitor.page
    visitor.go("/audit")
    page.get_by_label("Actions").select_option("run.retried")
    visitor.press("Search")
    assert page.locator(".total strong").inner_text() == "2"
    visitor.press("Sign a checkpoint")
    assert page.locator(".banner.good").is_visible()
    visitor.press("Verify the whole log")
    page.get_by_text("What came of it", exact=True).wait_for()
    visitor.go("/audit?run=" + run)
    page.locator("#export-reason").fill("in a browser")
    visitor.press("Export")
    page.get_by_role("link", name="Get the file").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Get the file").click()
    assert download.value.suggested_filename == "export.zip"
    visitor.go("/report")
    page.get_by_label("Since").fill("1st of March")
    page.get_by_label("Zone").fill("Europe/Vienna")
    page.get_by_label("Reason").fill("asked for by mail")
    visitor.press("Make the report")
    fault = page.get_by_role("alert")
    assert "must be a time" in fault.inner_text()
    assert fault.evaluate("it => it === document.activeElement"), "that is what comes first"
    assert page.get_by_label("Reason").input_value() == "asked for by mail"
    assert page.get_by_label("Zone").input_value() == "Europe/Vienna"
    assert page.get_by_label("Since").input_value() == "1st of March"
    assert visitor.faults() == []
    (told,) = visitor.heard.complaints
    assert "422" in told, "the browser itself says so, and nothing else is wrong"
    visitor.heard.complaints.clear()
    page.get_by_label("Since").fill("2026-01-01")
    visitor.press("Make the report")
    page.get_by_role("link", name="Get the file").wait_for()
    for verb in ("Verify", "Rebuild"):
        visitor.go("/projections")
        visitor.press(f"{verb} step_funnel")
        page.get_by_text("What came of it", exact=True).wait_for()
        assert page.locator(".state").inner_text().split()[-1] == "Done"


def _a_file(visitor: Visitor, engine: Engine) -> None:
    page, before = visitor.page, engine.list_runs().total
    visitor.go("/runs")
    page.get_by_role("link", name="Enroll contacts …").click()
    page.wait_for_url("**/enroll")
    visitor.look()
    rows = ["id,email,First Name", *(f"file{n},file{n}@example.com,Ada" for n in range(30))]
    content = "\n".join([*rows, "x,not an address,"]).encode()
    file: Any = {"name": "people.csv", "mimeType": "text/csv", "buffer": content}
    page.get_by_label("File").set_input_files(file)
    visitor.press("Look at the file")
    page.wait_for_url("**/enroll/*")
    page.get_by_text("What came of it", exact=True).wait_for()
    visitor.look()
    assert visitor.faults() == []
    assert visitor.fits()
    assert "file7@example.com" in page.locator("main").inner_text()
    assert engine.list_runs().total == before, "nothing has been done yet"
    visitor.press("Enroll these contacts")
    page.wait_for_url("**/jobs/*")
    page.get_by_text("What came of it", exact=True).wait_for()
    assert engine.list_runs().total == before + 30
    run = engine.list_runs(contact_id="file7").runs[0]
    assert engine.get_timeline(run.id)[0].actor == "admin"


def _parked(visitor: Visitor, engine: Engine) -> None:
    """Two runs that cannot be folded, until the fault is mended."""
    FAULTY.one_in = 1
    for name in ("parked1", "parked2"):
        person = {"id": name, "email": f"{name}@example.com", "firstName": "Ada", "city": "x"}
        engine.execute(engine.get_plan("outreach"), person)
    engine.run_until(engine.now().tick + 2)
    parked = engine.projections.parked()
    assert len(parked) >= 2
    page = visitor.page
    visitor.go("/projections")
    assert visitor.faults() == []
    FAULTY.one_in = SOUND
    visitor.press(f"Retry {parked[0].stream_id} of run_list")
    page.get_by_text("What came of it", exact=True).wait_for()
    assert len(engine.projections.parked()) == len(parked) - 1
    visitor.go("/projections")
    visitor.press("Retry all of run_list")
    page.get_by_text("What came of it", exact=True).wait_for()
    assert engine.projections.parked() == ()


def _an_endless_job(visitor: Visitor, engine: Engine) -> None:
    def endless(told: Callable[[int], None], workers: int) -> None:
        assert workers >= 1
        while True:
            told(40)
            time.sleep(0.01)

    page = visitor.page
    with patch.object(engine, "verify_log", endless):
        visitor.go("/audit")
        visitor.press("Verify the whole log")
        page.get_by_text("Running").wait_for()
        visitor.look()
        assert visitor.faults() == []
        visitor.press("End it after this batch")
        page.get_by_text("Ended early").wait_for()


def _zone(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/runs")
    page.get_by_role("link", name="UTC").click()
    page.wait_for_url("**/time-zone")
    for zone in ("Asia/Kolkata", "UTC"):
        page.get_by_label("Time zone").select_option(zone)
        visitor.press("Show times so")
        visitor.go("/runs")
        link = page.get_by_role("link", name=zone)
        assert link.is_visible()
        link.click()
        page.wait_for_url("**/time-zone")
        visitor.look()


def _recorded(world: World) -> None:
    """All of it is in the log, under the name of who pressed the buttons."""
    query = world.engine.audit.query
    one = query(actor="admin", text="in a browser", limit=1_000)
    told = {entry.action: entry for entry in one.entries}
    assert {
        "run.paused",
        "run.resumed",
        "run.cancelled",
        "run.retried",
        "step.resolved",
        "consent.granted",
        "consent.revoked",
        "contact.suppressed",
        "contact.unsuppressed",
        "contact.erased",
        "log.exported",
    } == told.keys()
    assert query(actor="admin", actions=["checkpoint.signed"]).total == 1
    assert query(actor="admin", actions=["run.paused"], text="many").total >= RUNS
    assert query(actor="admin", actions=["run.cancelled"], text="many").total >= RUNS
