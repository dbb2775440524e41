"""Forms with something wrong in them come back as they were typed, with what was wrong."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dee_es.errors import StoreUnavailable
from tests.support.web.application import PASSWORD, served, with_users
from tests.support.web.site import HTML, Site, signed_in
from tests.support.web.world import EVIL, Page, furnish, open_world


class Form(HTMLParser):
    """The form of an action as a browser would send it: its fields, and what it says was wrong."""

    def __init__(self, page: str, action: str) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: dict[str, list[str]] = {}
        self.said = ""
        self._action, self._inside, self._alert = action, False, False
        self._select, self._options = "", list[tuple[str | None, bool, str]]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = given.get("action", "").partition("?")[0] == self._action
        elif self._inside and tag == "input" and given.get("type") in ("checkbox", "radio"):
            if "checked" in given:
                self.fields.setdefault(given["name"], []).append(given["value"])
        elif self._inside and tag == "input":
            self.fields.setdefault(given["name"], []).append(given.get("value", ""))
        elif self._inside and tag == "select":
            self._select, self._options = given["name"], []
        elif self._inside and tag == "option":
            self._options.append((given.get("value"), "selected" in given, ""))
        self._alert = self._alert or (self._inside and given.get("role") == "alert")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select:
            sent = [text if value is None else value for value, _, text in self._options]
            chosen = [each for each, (_, on, _) in zip(sent, self._options, strict=True) if on]
            self.fields[self._select] = chosen or sent[:1]
            self._select = ""
        self._inside = self._inside and tag != "form"
        self._alert = self._alert and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._select and self._options:
            value, on, text = self._options[-1]
            self._options[-1] = (value, on, text + data)
        if self._alert:
            self.said += data


REPORT = {"since": "1st of March", "until": "2026-01-05", "zone": "Europe/Vienna", "format": "pdf",
          "include": ["sends", "windows"], "reason": EVIL}  # fmt: skip
CONSENT = {"channel": "voice", "purpose": "news letter", "expires": "2031-02-03",
           "source": f"a form {EVIL}", "reason": "signed"}  # fmt: skip
EXPORT = {"run": "a b", "since": "7d", "until": "2026-01-05", "format": "csv", "personal": "yes",
          "reason": "asked for"}  # fmt: skip
FORMS: list[tuple[str, dict[str, Any], int, str]] = [
    ("/report", REPORT, 422, "since"),
    ("/audit/export", EXPORT, 422, "runId"),
    ("/contacts/c1/grant-consent", CONSENT, 422, "purpose"),
    ("/contacts/c1/revoke-consent", {"channel": "voice", "purpose": "a b", "reason": "r"}, 422,
     "purpose"),
    ("/contacts/c1/suppress", {"level": "channel", "channel": "", "plan": "outreach",
                               "reason": "why"}, 422, "channel"),
    ("/contacts/c5/unsuppress", {"level": "plan", "channel": "email", "plan": "",
                                 "reason": "why"}, 422, "plan"),
    ("/contacts/c1/erase", {"reason": "asked to"}, 409, "typed exactly"),
    ("/contacts", {"contact": "a b", "email": "", "phone": "+43 1"}, 422, "contact"),
    ("/time-zone", {"zone": "Mars/X"}, 422, "zone"),
]  # fmt: skip
LATE: list[tuple[str, dict[str, Any], int, str]] = [
    ("/report", {"since": "30d", "zone": "Mars/X", "format": "md"}, 422, "no time zone"),
    ("/report", {"since": "2026-01-05", "until": "2026-01-04"}, 422, "must be after since"),
    ("/audit/export", {"reason": "asked"}, 422, "name a run"),
    ("/audit/export", {"run": "run_x", "contact": "c1", "reason": "asked"}, 422, "one of them"),
    ("/audit/export", {"run": "run_x", "reason": "asked"}, 404, "run_x"),
    ("/audit/export", {"contact": "nobody", "reason": "asked"}, 422, "nothing is known"),
    ("/audit/export", {"since": "2026-01-05", "until": "2026-01-04", "reason": "asked"}, 422,
     "later than since"),
]  # fmt: skip
RUNS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("active", "pause", {"keep": "remaining", "reason": "x" * 10_001}, 422, "reason"),
    ("refused", "cancel", {"reason": "because"}, 409, "tick the box"),
    ("refused", "retry", {"reason": "because"}, 409, "tick the box"),
    ("unknown", "resolve", {"outcome": "resend", "reason": "because"}, 409, "tick the box"),
]
BULK = {"keep": "remaining", "reason": "on call"}


def _comes_back(acting: Site, path: str, given: dict[str, Any], status: int, said: str) -> None:
    before = acting.world.engine.metrics().position
    page = acting.send(path, status, **given, key="k" * 20)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert Page(page.text).faults == [], "what was typed acts nowhere"
    form = Form(page.text, path.partition("?")[0])
    assert said.lower() in form.said.lower(), (form.said, page.text[-3000:])
    for name, value in given.items():
        if path != "/time-zone":
            assert form.fields.get(name) == (value if isinstance(value, list) else [value]), name
    assert form.fields.get("key") != ["k" * 20], "it is another command"
    assert form.fields.get("confirm", [""]) in ([""], []), "it is confirmed anew"
    assert acting.world.engine.metrics().position == before, "nothing was done"


@pytest.mark.parametrize("path, given, status, said", FORMS)
def test_a_form_comes_back_as_it_was_typed(
    acting: Site, path: str, given: dict[str, Any], status: int, said: str
) -> None:
    _comes_back(acting, path, given, status, said)


@pytest.mark.parametrize("path, given, status, said", LATE)
def test_what_the_work_would_fail_of_is_refused_before_it_begins(
    acting: Site, path: str, given: dict[str, Any], status: int, said: str
) -> None:
    _comes_back(acting, path, given, status, said)
    assert acting.client.get("/api/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("name, verb, given, status, said", RUNS)
def test_a_form_of_a_run_comes_back_as_it_was_typed(
    acting: Site, name: str, verb: str, given: dict[str, Any], status: int, said: str
) -> None:
    _comes_back(acting, f"/runs/{acting.world.runs[name]}/{verb}", given, status, said)


def test_a_form_about_many_runs_comes_back_as_it_was_typed(acting: Site) -> None:
    paused = "/runs/bulk/pause?plan=outreach"
    _comes_back(acting, paused, BULK, 409, "which is 3 now")
    _comes_back(acting, "/runs/bulk/resume?status=paused", {"per_tick": "0", "reason": "go"}, 422,
                "per_tick")  # fmt: skip


def test_only_the_form_that_was_sent_is_opened_and_filled(acting: Site) -> None:
    page = acting.send("/contacts/c5/grant-consent", 422, **CONSENT).text
    assert page.count('<details class="do" open>') == 1
    assert page.count('role="alert"') == 1
    for verb in ("suppress", "unsuppress", "revoke-consent", "erase"):
        assert Form(page, f"/contacts/c5/{verb}").fields["reason"] == [""], verb
    assert "signed" not in acting.page("/contacts/c5").text, "it is kept nowhere"


def test_a_file_of_contacts_has_to_be_chosen_again_and_nothing_else(acting: Site) -> None:
    given = {"plan": "outreach", "dedupe": "id", "numbers": "age", "booleans": "age"}
    page = acting.client.post(
        "/enroll",
        data=given,
        files={"contacts": ("c.csv", b"nothing\nof use\n", "text/csv")},
        headers={**HTML, "x-dee-request": "1"},
    )
    assert page.status_code == 422, page.text
    form = Form(page.text, "/enroll")
    assert form.said
    assert {name: [value] for name, value in given.items()}.items() <= form.fields.items()
    assert "Choose the file again" in page.text


def test_what_was_typed_is_told_where_the_form_is_no_longer_there(
    acting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = acting.send(f"/runs/{acting.world.runs['lost']}/pause", 409, reason=EVIL).text
    assert EVIL in Page(page).text
    assert Page(page).faults == []
    assert "What you typed" in page

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(acting.world.engine, "suppress", down)
    page = acting.send("/contacts/c1/suppress", 503, reason="asked for it", key="k" * 20).text
    assert "asked for it" in page
    assert "k" * 20 not in page
    assert "What you typed" not in acting.page("/runs?after=never", 422).text


def test_a_form_that_comes_back_has_the_token_of_the_session(tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path)
    with open_world() as engine, served(engine, settings) as client:
        furnish(engine)
        token = signed_in(client, "operator")
        given = {**REPORT, "csrf_token": token, "key": "k" * 20}
        form = Form(client.post("/report", data=given, headers=HTML).text, "/report")
        assert form.fields["csrf_token"] == [token]
        client.cookies.clear()
        page = client.post("/login", data={"name": "x", "password": PASSWORD}, headers=HTML)
        assert PASSWORD not in page.text, "a password is given back by no page"
        stale = client.post("/report", data={**given, "csrf_token": "x"}, headers=HTML)
        assert "1st of March" not in stale.text, "nor anything to a stranger"
