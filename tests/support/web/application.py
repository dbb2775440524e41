"""The web application for tests: its parts in this process, or `dee serve` in one of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from argon2 import PasswordHasher

from dee_es import Engine
from dee_es.web.app import WebApp, create_app
from dee_es.web.security import users as passwords
from dee_es.web.security.roles import Role
from dee_es.web.security.users import Users
from dee_es.web.settings import WebSettings
from tests.support.waiting import eventually

HOST: Final = "127.0.0.1:8765"
API: Final = "/api/v1"
MEANT: Final = {"X-Dee-Request": "1"}
"""What a script on a server without users sends with what changes something."""
UNCHANGING: Final = ("/validate", "/render", "/identify", "/what-if", "/replay")
"""How the addresses end that take a POST and change nothing."""
PERSON: Final = {
    "id": "contact_123",
    "email": "jane@example.com",
    "attributes": {"firstName": "Jane"},
}
FORM: Final = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{HOST}"}
"""What a browser sends with a form of ours."""
PASSWORD: Final = "correct horse battery"
# Slow on purpose where somebody might guess; `dee serve` itself is tried with the real ones.
passwords.HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
SETTINGS: Final = WebSettings(local_actor="robin", unsafe_per_minute=600_000, unsafe_burst=100_000)


class Client:
    """Calls the application in this process, one request at a time or many from threads."""

    def __init__(self, app: WebApp, portal: BlockingPortal, headers: dict[str, str]) -> None:
        # A failure of the server is an answer to look at.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(
            transport=transport, base_url=f"http://{HOST}", headers=headers, timeout=60
        )
        self._portal = portal

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies that the application has set."""
        return self._client.cookies

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer to a request; redirects are not followed."""
        return self._portal.call(partial(self._client.request, method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """The answer to a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """The answer to a POST."""
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        """The answer to a DELETE."""
        return self.request("DELETE", path, **options)


@contextmanager
def served(engine: Engine, settings: WebSettings = SETTINGS, **headers: str) -> Iterator[Client]:
    """A client of the application on an engine."""
    app = create_app(engine, settings)
    try:
        with start_blocking_portal() as portal:
            yield Client(app, portal, headers)
    finally:
        app.close()


def with_users(folder: Path, **settings: Any) -> tuple[WebSettings, dict[str, str]]:
    """Settings with a user of each role, named like it, and a token for each role."""
    path = folder / "dee.users"
    content, tokens = _users()
    path.write_bytes(content)
    path.chmod(0o600)
    return replace(SETTINGS, users_file=path, **settings), tokens


@cache
def _users() -> tuple[bytes, dict[str, str]]:
    """The file with them, made once: hashing passwords is slow on purpose."""
    with tempfile.TemporaryDirectory() as folder:
        users = Users(Path(folder) / "users")
        tokens = {role.value: users.add_token(f"{role.value}-token", role) for role in Role}
        for role in Role:
            users.add_user(role.value, role, PASSWORD)
        return (Path(folder) / "users").read_bytes(), tokens


def bearer(token: str) -> dict[str, str]:
    """The header by which a program says who it is."""
    return {"Authorization": f"Bearer {token}"}


def ended(client: Client | httpx.Client, answer: Any, **headers: str) -> dict[str, Any]:
    """The job that a call started, once it has ended."""
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    job: dict[str, Any] = {}

    def is_over() -> bool:
        job.update(client.get(place, headers=headers).json())
        return job["state"] not in ("queued", "running")

    eventually(is_over, lambda: f"still {job['state']}: {job}")
    return job


def start(client: Client, who: str = "contact_123", **headers: str) -> dict[str, Any]:
    """A run that is started for somebody."""
    given = {"plan": "outreach", "contact": {**PERSON, "id": who}}
    answer = client.post(f"{API}/runs", json=given, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def refused(answer: Any, status: int, error: str, field: str | None = None) -> dict[str, Any]:
    """The problem that an answer is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["error"]) == (status, status, error), said
    assert said.get("field") == field, said
    return said


def said(answer: Any) -> tuple[int, str]:
    """Status and error of the problem that an answer is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["error"]


def sign_in(client: Client, name: str, password: str = PASSWORD, **fields: str) -> Any:
    """What signing in answers."""
    return client.post("/login", data={"name": name, "password": password, **fields}, headers=FORM)
