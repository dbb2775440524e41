"""A furnished database behind the application, and what its pages are checked for each time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.support.web.application import MEANT, PASSWORD, Client
from tests.support.web.world import Page, World

HTML: Final = {"accept": "text/html"}
HTMX: Final = {"hx-request": "true"}


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


def job_of(acting: Site, answer: httpx.Response) -> dict[str, Any]:
    """The job that a form has started, once it has ended well, and its page was looked at."""
    place = answer.headers["location"]
    job = ended(acting.client, place)
    text = acting.page(place).text
    part = acting.client.get(place, headers=HTMX).text
    assert part.lstrip().startswith('<section id="job"')
    assert "hx-get" not in part, "an ended job is not asked about again"
    assert "What came of it" in text
    return job


def ended(client: Client, place: str) -> dict[str, Any]:
    """A job by the address of its page, once it has ended in one way or another."""
    for _ in range(2_000):
        job: dict[str, Any] = client.get(f"/api/v1{place}").json()
        if job["state"] not in ("queued", "running"):
            return job
    raise AssertionError(job)


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
