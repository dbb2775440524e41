"""Pages whose projection is behind: they say how far it is instead of keeping anybody waiting."""

from __future__ import annotations

import logging
import re

import pytest

from dee_es import Engine
from dee_es.web.pages import rendering
from dee_es.web.upkeep import kept_level
from tests.support.waiting import eventually
from tests.support.web.application import API
from tests.support.web.site import HTML, Site

PAGES = {
    "/contacts/c5": "contact_history",
    "/plans/outreach": "step_funnel",
    "/audit?action=run.paused&action=run.cancelled": "audit_trail",
}


@pytest.mark.parametrize("path, name", PAGES.items())
def test_a_page_says_how_far_its_projection_is(
    acting: Site, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    engine = acting.world.engine
    recorded = engine.health().position
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0)
    answer = acting.page(path, 503)
    assert answer.headers["retry-after"] == "2"
    assert '<meta http-equiv="refresh" content="2">' in answer.text
    assert f"<code>{name}</code>" in answer.text
    words = re.sub(r"<[^>]*>", "", answer.text)
    assert f"It has folded 0 of {recorded:,} events, 0.0 %." in words
    assert engine.health().position == recorded, "a search that was not answered is not recorded"
    assert engine.projections.lag()[name] == recorded
    monkeypatch.undo()
    assert "refresh" not in acting.page(path).text
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0)
    if name != "audit_trail":
        assert acting.page(path), "level, it answers at once"


def test_a_page_works_at_it_so_that_it_gets_there(
    acting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0.000_001)
    monkeypatch.setattr("dee_es.engine.projecting.keeping.PIECE", 10)
    eventually(lambda: acting.client.get("/contacts/c5", headers=HTML).status_code == 200)
    assert "contact.suppressed" in acting.page("/contacts/c5").text


def test_programs_and_other_pages_are_not_put_off(
    acting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0)
    for path in ("/runs", "/contacts", "/plans", "/audit", "/projections", "/health", "/jobs"):
        acting.page(path)
    run = acting.world.runs["won"]
    acting.page(f"/runs/{run}")
    found = acting.client.get(f"{API}/audit?runId={run}").json()
    assert found["total"] == len(found["entries"]) > 0, "the API waits, and answers in full"


def test_what_nobody_asked_for_yet_is_level_by_then(
    acting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = acting.world.engine
    monkeypatch.setattr(rendering, "_PATIENCE_S", 0)
    with kept_level(engine):
        eventually(lambda: not any(engine.projections.lag().values()))
        for path in PAGES:
            acting.page(path)


def test_keeping_level_outlives_nothing_and_says_only_what_kind_of_error_it_was(
    acting: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine: Engine = acting.world.engine

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("jane@example.com")

    monkeypatch.setattr(engine.projections, "keep_level", broken)
    with caplog.at_level(logging.ERROR, "dee_es.web"), kept_level(engine):
        acting.page("/runs")
    (record,) = caplog.records
    assert (record.message, record.error) == ("keeping_level_failed", "RuntimeError")  # type: ignore[attr-defined]
    assert "jane" not in caplog.text
