"""The parts of the web door, each by itself."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from dee_es import errors
from dee_es.errors import DeeError, InvalidInput, PlanFault, PlanValidationError
from dee_es.web import problems
from dee_es.web.idempotency import command_id_of
from dee_es.web.problems import Refused, in_json, problem_of
from dee_es.web.routing import ADMIN, api_router, page_router
from dee_es.web.security.authentication import Doorkeeper
from dee_es.web.security.limits import Buckets, check_depth
from dee_es.web.security.login import Attempts, _own_path
from dee_es.web.security.roles import Role
from dee_es.web.security.sessions import Sessions
from dee_es.web.security.users import Users
from dee_es.web.settings import WebSettings, is_loopback
from tests.support.web.application import API, PASSWORD, SETTINGS, with_users


class Moment:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- limits ---------------------------------------------------------------------------------------


def test_json_as_deep_as_can_be_stored_passes_and_deeper_does_not() -> None:
    check_depth(b'{"variables":' + b"[" * 63 + b"]" * 63 + b"}")
    for deep in (b"[" * 10_000, b'{"a":' * 10_000, b"[" * 69 + b"]" * 69, b"[[]" * 10_000):
        with pytest.raises(Refused, match="nested deeper") as refused:
            check_depth(deep)
        assert refused.value.status == 400


@pytest.mark.parametrize(
    "text", ["[[[[{", '"', '\\"[', "{}" * 100, '[\\"' * 100, "a" * 10_000], ids=str.__len__
)
def test_brackets_in_texts_do_not_count(text: str) -> None:
    check_depth(json.dumps([text * 50]).encode())


@given(st.lists(st.sampled_from(["[", "]", "{", "}", '"', "\\", "a", ",", '""', '"[', '["'])))
def test_the_depth_is_that_of_brackets_outside_of_texts(parts: list[str]) -> None:
    document = "".join(parts)
    depth, most, text, escaped = 0, 0, False, False
    for char in document:
        if text:
            text, escaped = escaped or char != '"', not escaped and char == "\\"
        elif char == '"':
            text = True
        elif char in "[]{}":
            depth += 1 if char in "[{" else -1
            most = max(most, depth)
    for more in range(60, 70):
        ahead = b"[" * more
        if more + most > 68:
            with pytest.raises(Refused):
                check_depth(ahead + document.encode())
        else:
            check_depth(ahead + document.encode())


@pytest.mark.parametrize(
    "part",
    ['\\"', '"\\', '["', "a", "[]", '""', '["a"],', "a[", '"a', "\\", '"\\\\",'],
)
@pytest.mark.parametrize("start", ["", '"', "a", '["'])
def test_a_document_of_any_kind_takes_no_time(part: str, start: str) -> None:
    document = (start + part * (256 * 1024 // len(part))).encode()
    began = time.process_time()
    with suppress(Refused):
        check_depth(document)
    assert time.process_time() - began < 2


def test_a_bucket_lets_a_burst_through_and_then_a_rate() -> None:
    clock = Moment()
    buckets = Buckets(60, 3, clock)
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.wait("a") == pytest.approx(1)
    assert buckets.wait("b") == 0
    clock.now = 1.0
    assert buckets.wait("a") == 0
    assert buckets.wait("a") > 0


def test_attempts_are_limited_by_key_and_forgotten_after_a_while() -> None:
    clock = Moment()
    attempts = Attempts(100, clock)
    limits = {"name": 4, "both": 2}
    for second in range(2):
        clock.now = second
        assert attempts.wait(limits) == 0
        attempts.failed(limits)
    assert attempts.wait(limits) == pytest.approx(99)
    assert attempts.wait({"name": 4}) == 0
    clock.now = 101.5
    assert attempts.wait(limits) == 0
    attempts.failed(limits)
    attempts.failed(limits)
    assert attempts.wait(limits) > 0
    attempts.succeeded(limits)
    assert attempts.wait(limits) == 0


# --- sessions and users ---------------------------------------------------------------------------


def test_a_session_has_a_new_id_and_ends_unused_old_or_signed_out(tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path)
    user = Users(tmp_path / "dee.users").known().users["viewer"]
    clock = Moment()
    sessions = Sessions(settings, clock)
    first = sessions.begin(user, None)
    second = sessions.begin(user, first)
    assert first != second
    assert sessions.find(first) is None
    assert sessions.find("planted") is None
    assert sessions.find(second) is not None
    clock.now = settings.session_idle_s + 1
    assert sessions.find(second) is None
    third = sessions.begin(user, None)
    while clock.now < 2 * settings.session_most_s:
        clock.now += settings.session_idle_s - 1
        if sessions.find(third) is None:
            break
    assert clock.now <= settings.session_most_s + 2 * settings.session_idle_s
    fourth = sessions.begin(user, None)
    sessions.end(fourth)
    assert sessions.find(fourth) is None


def test_the_users_file_holds_no_password_and_no_token_and_only_its_owner_reads_it(
    tmp_path: Path,
) -> None:
    settings, tokens = with_users(tmp_path)
    path = tmp_path / "dee.users"
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in text
    assert not any(token in text for token in tokens.values())
    assert text.count("$argon2id$") == 3
    users = Users(path)
    assert users.signed_in("operator", PASSWORD) is not None
    assert users.signed_in("operator", PASSWORD + "x") is None
    assert users.signed_in("nobody", PASSWORD) is None
    found = users.bearer(tokens["admin"])
    assert found is not None
    assert (found.name, found.role) == ("admin-token", Role.ADMIN)
    assert users.bearer("dee_guess") is None
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="others can read"):
        Users(path).known()
    with pytest.raises(InvalidInput, match="others can read"):
        Doorkeeper(settings)


def test_users_are_changed_and_forgotten(tmp_path: Path) -> None:
    users, again = Users(tmp_path / "u"), Users(tmp_path / "u")
    assert users.known().empty
    users.add_user("ada", Role.VIEWER, PASSWORD)
    users.add_user("ada", Role.ADMIN, PASSWORD)
    old = users.add_token("ci", Role.OPERATOR)
    new = users.add_token("ci", Role.VIEWER)
    assert again.known().users["ada"].role == Role.ADMIN
    assert again.bearer(old) is None
    assert again.bearer(new) is not None
    with pytest.raises(InvalidInput, match="a user's"):
        users.add_token("ada", Role.VIEWER)
    with pytest.raises(InvalidInput, match="a token's"):
        users.add_user("ci", Role.VIEWER, PASSWORD)
    for name, password, what in (
        ("ada", "short", "password"),
        ("", PASSWORD, "name"),
        ("a\nb", PASSWORD, "name"),
    ):
        with pytest.raises(InvalidInput, match=what):
            users.add_user(name, Role.VIEWER, password)
    assert users.remove("ci")
    assert not users.remove("ci")
    assert again.bearer(new) is None
    (tmp_path / "u").write_text("[]")
    (tmp_path / "u").chmod(0o600)
    with pytest.raises(InvalidInput, match="not a file of users"):
        again.known()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "0.0.0.0"},
        {"host": "10.0.0.1", "allowed_hosts": ("dee.example",)},
        {"allowed_hosts": ("dee.example",)},
        {"trusted_proxies": ("127.0.0.1",)},
    ],
)
def test_without_users_only_this_machine_is_served(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="nobody could sign in"):
        Doorkeeper(WebSettings(**changes))


def test_other_addresses_need_the_names_under_which_they_are_reached(tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path, host="0.0.0.0")
    with pytest.raises(InvalidInput, match="allowed-host"):
        Doorkeeper(settings)
    named, _ = with_users(tmp_path, host="0.0.0.0", allowed_hosts=("dee.example",))
    assert not Doorkeeper(named).local
    assert named.secure_cookies
    assert not SETTINGS.secure_cookies


def test_a_server_without_users_stays_closed_to_those_added_later(tmp_path: Path) -> None:
    path = tmp_path / "dee.users"
    doorkeeper = Doorkeeper(WebSettings(users_file=path))
    Users(path).add_user("ada", Role.ADMIN, PASSWORD)
    assert doorkeeper.local
    opened = Doorkeeper(WebSettings(users_file=path))
    Users(path).remove("ada")
    # Nobody at all can come in now, which is better than everybody.
    scope = {"type": "http", "path": f"{API}/runs", "method": "GET", "headers": []}
    assert opened.actor(scope) is None


@pytest.mark.parametrize(
    "host, own", [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True),
                  ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("dee.example", False)]
)  # fmt: skip
def test_loopback_is_known(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    "given, path",
    [
        ("/runs", "/runs"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
        ("/a\nb", "/"),
        ("/a\\..", "/"),
        ("/runs?status=failed&plan=a%20b", "/runs?status=failed&plan=a%20b"),
        ("/runs?next=//evil.example", "/runs?next=//evil.example"),
        ("//evil.example?next=/runs", "/"),
        ("?status=failed", "/"),
        ("/runs?a=\\b", "/"),
        ("/runs?a=\tb", "/"),
    ],
)
def test_signing_in_leads_nowhere_else(given: str, path: str) -> None:
    assert _own_path(given) == path


# --- routes and problems --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: api_router("x"), page_router])
def test_a_route_without_a_role_stops_the_program(make: Any) -> None:
    router = make()
    with pytest.raises(TypeError, match="names no role"):
        router.get("/open")(lambda: None)
    router.get("/closed", openapi_extra=ADMIN)(lambda: None)


def test_roles_cover_those_below() -> None:
    covers = [[mine.covers(needed) for needed in Role] for mine in Role]
    assert covers == [[True, False, False], [True, True, False], [True, True, True]]


def test_keys_of_two_people_never_meet() -> None:
    ids = {command_id_of(name, key) for name, key in [("a", "bc"), ("ab", "c"), ("abc", "")]}
    assert len(ids) == 3
    assert all(len(each) <= 64 for each in ids)


@pytest.mark.parametrize(
    "field, named",
    [
        ("start_at", "startAt"),
        ("contact.email", "contact.email"),
        ("variables.first_name", "variables.first_name"),
        ("contact_id", "contactId"),
        ("time, tick", "time, tick"),
    ],
)
def test_fields_are_named_as_in_json(field: str, named: str) -> None:
    assert in_json(field) == named


def every_error() -> list[type[DeeError]]:
    found, left = [], [DeeError]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind.__module__ == errors.__name__ and kind is not DeeError:
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


STATUS = {
    "AlreadyEnrolled": 409,
    "AnchorUnavailable": 503,
    "ChannelFailed": 502,
    "ConcurrencyConflict": 409,
    "ContactSuppressed": 409,
    "DefinitionNotFound": 404,
    "EmptyFilter": 422,
    "HoldInForce": 409,
    "IntegrityViolation": 500,
    "InvalidInput": 422,
    "OutputExists": 409,
    "PartlySuppressed": 500,
    "InvalidTransition": 409,
    "KeyDestroyed": 410,
    "MasterKeyRotated": 503,
    "OutcomeUnknownError": 409,
    "PlanNotFound": 404,
    "PlanValidationError": 422,
    "ProjectionStuck": 500,
    "ProjectionUnavailable": 503,
    "RebuildRefused": 409,
    "RunArchived": 410,
    "RunNotFound": 404,
    "StoreUnavailable": 503,
    "TableGone": 503,
    "UnknownEventVersion": 500,
}


def test_every_kind_of_error_has_a_status_of_its_own_choosing() -> None:
    assert {kind.__name__ for kind in every_error()} == set(STATUS)
    for kind in every_error():
        assert any(kind is known or issubclass(kind, known) for known, _, _ in problems.STATUSES)


def made(kind: type[DeeError]) -> DeeError:
    if kind is PlanValidationError:
        return PlanValidationError("p", [PlanFault("s", "is wrong", "mend it"),
                                         PlanFault(None, "is worse", "mend it too")])  # fmt: skip
    if issubclass(kind, InvalidInput):
        return kind("start_at", "has passed")
    if issubclass(kind, errors.InvalidTransition):
        return kind("run_a", "failed", "paused")
    return kind("what happened\nand what to do")


@pytest.mark.parametrize("kind", every_error())
def test_an_error_becomes_a_problem(kind: type[DeeError]) -> None:
    said = problem_of(made(kind), "/here")
    assert said.error == kind.__name__
    assert said.status == STATUS[kind.__name__]
    assert said.type == f"urn:dee:problem:{kind.__name__}"
    assert "\n" not in said.detail
    assert said.title
    if kind is InvalidInput:
        assert (said.field, said.detail) == ("startAt", "startAt: has passed")
    if kind is PlanValidationError:
        shown = problems.shown(said)
        assert shown["detail"] == "plan 'p' has 2 faults"
        assert [fault["stepId"] for fault in shown["faults"]] == ["s", None]


def test_every_error_is_answered_as_a_problem() -> None:
    import asyncio

    import httpx

    app = FastAPI()
    problems.install(app)
    kinds = {kind.__name__: kind for kind in every_error()}

    @app.get("/{name}")
    def fail(name: str) -> None:
        if name == "unforeseen":
            raise RuntimeError("jane@example.com")
        raise made(kinds[name])

    async def ask() -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return {name: await client.get(f"/{name}") for name in [*kinds, "unforeseen"]}

    answers = asyncio.run(ask())
    failed = answers.pop("unforeseen")
    assert failed.status_code == 500
    assert failed.json()["error"] == "InternalError"
    assert "jane" not in failed.text
    assert "Traceback" not in failed.text
    for name, answer in answers.items():
        assert answer.status_code == STATUS[name]
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"] == name
        assert answer.json()["instance"] == f"/{name}"
