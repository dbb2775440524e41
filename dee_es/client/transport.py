"""Requests to a `dee serve`, repeated safely, and its problems as the engine's errors."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from math import inf
from typing import IO, Any, Final

import httpx

from dee_es import errors as e
from dee_es.core.clock import require_utc
from dee_es.core.values import check_id, check_plan_id, check_text, check_value, is_number
from dee_es.errors import (
    DeeError,
    InvalidInput,
    InvalidTransition,
    PlanFault,
    PlanValidationError,
    StoreUnavailable,
)

API: Final = "/api/v1"
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.5
_MOST_GROWN_S: Final = 4.0
_MOST_PAUSE_S: Final = 30.0
_TRY_AGAIN: Final = frozenset({408, 429, 503})
_MISSED: Final = frozenset({502, 503, 504})
_TRANSITION = re.compile(r"run (\S+) cannot go from (\S+) to (\S+?)(?::|\Z)")
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_PLAN = re.compile(r"plan '([^']*)'")
_REFUSED: Final[dict[str, type[InvalidTransition]]] = {
    kind.__name__: kind for kind in (InvalidTransition, e.OutcomeUnknownError)
}
_OF_FIELDS: Final[dict[str, type[InvalidInput]]] = {
    kind.__name__: kind for kind in (InvalidInput, e.DefinitionNotFound)
}
# The errors that are made of their text alone; no class is looked up by a name that was sent.
_ERRORS: Final[dict[str, type[DeeError]]] = {
    kind.__name__: kind
    for kind in (
        e.AlreadyEnrolled,
        e.AnchorUnavailable,
        e.ChannelFailed,
        e.ConcurrencyConflict,
        e.ContactSuppressed,
        e.EmptyFilter,
        e.HoldInForce,
        e.IntegrityViolation,
        e.KeyDestroyed,
        e.MasterKeyRotated,
        e.OutputExists,
        e.PartlySuppressed,
        e.PlanNotFound,
        e.ProjectionStuck,
        e.ProjectionUnavailable,
        e.RebuildRefused,
        e.RunArchived,
        e.RunNotFound,
        e.StoreUnavailable,
        e.TableGone,
        e.UnknownEventVersion,
    )
}


class ApiRefused(DeeError):
    """The server refused the call for a reason of its own, such as a role: `status` and `error`
    are those of the problem it answered with."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        self.status, self.error = status, error
        super().__init__(f"{error}: {detail}")


class Unanswered(StoreUnavailable):
    """The server did not answer; `known` says what is known to be done all the same."""

    def __init__(self, cause: str, known: str = "") -> None:
        self.cause, self.known = cause, known
        done = f"known to be done: {known}" if known else "nothing is known to be done"
        super().__init__(f"the server did not answer ({cause}); {done}")


@contextmanager
def knowing(so_far: Callable[[], str]) -> Iterator[None]:
    """Have the error of a server that does not answer tell what was done until then."""
    try:
        yield
    except Unanswered as error:
        known = ", then ".join(filter(None, (so_far(), error.known)))
        raise Unanswered(error.cause, known) from None


class Transport:
    """Makes requests; those that change something carry a key, so that repeating them is safe.

    One that gets no answer, or that of a proxy whose server is away, is made again for `patience_s`
    seconds from then on, as it takes to start a server anew; with 0 it is made once.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout_s: float,
        verify: bool | str,
        patience_s: float,
    ) -> None:
        headers = {"X-Dee-Request": "1", "Accept": "application/json"}
        near = _checked_url(url, token)
        if not is_number(patience_s) or not patience_s >= 0:
            raise InvalidInput("patience_s", "must be 0 seconds or more")
        self._patience_s = patience_s
        if token is not None:
            headers["Authorization"] = f"Bearer {_sendable('token', token)}"
        self._client = httpx.Client(
            base_url=url.rstrip("/") + API,
            headers=headers,
            timeout=timeout_s,
            verify=verify,
            # No proxy stands between a machine and itself.
            trust_env=not near,
        )

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answers."""
        given = {name: _text(name, value) for name, value in query.items() if value is not None}
        return _document(self._send("GET", path, params=given))

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        changes: bool = True,
    ) -> Any:
        """What a POST answers; `key` is the Idempotency-Key, made up if none is given."""
        given = {
            name: _json(name, value) for name, value in (body or {}).items() if value is not None
        }
        headers = {"Content-Type": "application/json"}
        if changes:
            headers["Idempotency-Key"] = key_given(key)
        return _document(self._send("POST", path, content=_written(given), headers=headers))

    def made_of(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The bytes that a POST which changes nothing answers."""
        return self._send("POST", path, json=body).content

    def upload(self, path: str, content: bytes, *, key: str | None = None, **query: Any) -> Any:
        """What a POST of a file answers."""
        headers = {
            "Idempotency-Key": key_given(key),
            "Content-Type": "application/octet-stream",
        }
        given = {name: _text(name, value) for name, value in query.items() if value is not None}
        return _document(self._send("POST", path, content=content, params=given, headers=headers))

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file, which is taken in whole before the first of them."""
        with tempfile.TemporaryFile() as file:
            self.receive(path, file)
            file.seek(0)
            yield from file

    def receive(self, path: str, file: IO[bytes]) -> None:
        """Write a file of the server's into this one, in flat memory."""
        self._repeated(lambda: self._received(path, file))

    def delete(self, path: str) -> None:
        """Make a DELETE."""
        self._send("DELETE", path)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._repeated(lambda: self._answer(method, path, **options))

    def _repeated(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """The first answer that is a success, or is not to be had otherwise in a moment."""
        attempt, until = 0, inf
        while True:
            answer, cause = None, ""
            try:
                answer = ask()
            except httpx.TransportError as error:
                cause = type(error).__name__
            if answer is not None and answer.is_success:
                return answer
            now = time.monotonic()
            until = min(until, now + self._patience_s)
            pause = min(_MOST_GROWN_S, _PAUSE_S * 2**attempt)
            attempt += 1
            if not self._patience_s or not _goes_on(answer, attempt, now < until):
                raise Unanswered(cause) if answer is None else error_of(answer)
            time.sleep(pause if answer is None else max(pause, _asked_for(answer)))

    def _received(self, path: str, file: IO[bytes]) -> httpx.Response:
        """The answer, with its content in the file if it is a success."""
        with self._client.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
                return answer
            file.seek(0)
            file.truncate()
            for piece in answer.iter_bytes():
                file.write(piece)
            return answer

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer; that of a former attempt that is under way is waited for."""
        until = time.monotonic() + _MOST_PAUSE_S
        while True:
            answer = self._client.request(method, path, **options)
            if not _under_way(answer) or time.monotonic() >= until:
                return answer
            time.sleep(max(_PAUSE_S, _asked_for(answer)))


def key_given(command_id: str | None) -> str:
    """The key of a call, made up if none is given; raises `InvalidInput` for what is none."""
    return secrets.token_urlsafe(24) if command_id is None else check_id("command_id", command_id)


def _sendable(field: str, value: object) -> str:
    """A text that a header can hold; the value is not told, for it may be secret."""
    if not isinstance(value, str):
        raise InvalidInput(field, f"must be text, not {type(value).__name__}")
    shown = value.isascii() and value.isprintable() and value == value.strip()
    if not value or not shown or " " in value:
        raise InvalidInput(field, "must be printable ASCII without spaces, as headers are")
    return value


def _document(answer: httpx.Response) -> Any:
    """The JSON of an answer; raises `ApiRefused` for what somebody else may have answered."""
    try:
        return answer.json()
    except (ValueError, RecursionError):
        raise _not_ours(answer) from None


def _not_ours(answer: httpx.Response) -> ApiRefused:
    return ApiRefused(answer.status_code, "NotAnApi", "the answer is none of a `dee serve`")


def part(field: str, value: str) -> str:
    """An id as a part of a path; raises `InvalidInput` for what is none, as the engine does."""
    if field == "plan_id":
        # Whatever has a plan in its path takes one version of it as a parameter.
        checked = check_plan_id(field, value, "version")
    else:
        checked = check_id(field, value)
    if not checked.strip("."):
        raise InvalidInput(field, "is nothing but dots, which an address cannot hold")
    return checked


def error_of(answer: httpx.Response) -> DeeError:
    """The error that a problem stands for."""
    try:
        said = answer.json()
        name, detail = str(said["error"]), str(said["detail"])
    except (ValueError, KeyError, TypeError):
        return _not_ours(answer)
    return problem_error(name, detail, answer.status_code, said)


def problem_error(name: str, detail: str, status: int, said: Mapping[str, Any]) -> DeeError:
    """The same by the members of a problem."""
    of_field = _OF_FIELDS.get(name)
    if of_field is not None:
        field = in_python(str(said.get("field", "")))
        return of_field(field, detail.partition(": ")[2] or detail)
    if name == "PlanValidationError":
        plan = _PLAN.match(detail)
        faults = [
            PlanFault(each["stepId"], each["problem"], each["remedy"])
            for each in said.get("faults", ())
        ]
        return PlanValidationError(plan[1] if plan else "", faults)
    moved = _TRANSITION.match(detail)
    refused = _REFUSED.get(name)
    if refused is not None and moved is not None:
        run_id, source, target = moved.groups()
        return refused(run_id, source, target, detail[moved.end() :].strip())
    kind = _ERRORS.get(name)
    return ApiRefused(status, name, detail) if kind is None else kind(detail)


def in_python(field: str) -> str:
    """A field by its name in Python: `startAt` as `start_at`; a stream's name stays as it is."""
    head, dot, rest = field.partition(".")
    if ":" in head:
        return field
    return _HUMP.sub(lambda hump: f"_{hump[1].lower()}", head) + dot + rest


def _text(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return _moment(name, value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_text(name, each) for each in value]
    return check_text(in_python(name), str(value))


def _written(given: Mapping[str, Any]) -> bytes:
    """The members of a document as they are sent; raises `InvalidInput` for one that is no JSON."""
    with suppress(TypeError, ValueError, RecursionError):
        written = json.dumps(given, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return written.encode()
    for name, value in given.items():
        check_value(in_python(name), value)
    raise InvalidInput("body", "holds what is no JSON value")


def _json(name: str, value: Any) -> Any:
    return _moment(name, value) if isinstance(value, datetime) else value


def _moment(name: str, value: datetime) -> str:
    return require_utc(in_python(name), value).isoformat()


def _goes_on(answer: httpx.Response | None, attempt: int, patient: bool) -> bool:
    """Whether another try makes sense: while the server is away, as long as there is patience;
    where the server itself says that it may be otherwise in a moment, some times."""
    if answer is None or (answer.status_code in _MISSED and not _is_problem(answer)):
        return patient
    return answer.status_code in _TRY_AGAIN and attempt < _ATTEMPTS


def _under_way(answer: httpx.Response) -> bool:
    """Whether the server is at this very call already, or was when it died."""
    if answer.status_code != 409 or not _is_problem(answer):
        return False
    try:
        return bool(answer.json()["error"] == "CallUnderWay")
    except (ValueError, KeyError, TypeError):
        return False


def _is_problem(answer: httpx.Response) -> bool:
    kind: str = answer.headers.get("content-type", "")
    return kind.startswith("application/problem+json")


def _asked_for(answer: httpx.Response) -> float:
    """The seconds that a server wants to be left alone, within reason."""
    given = answer.headers.get("retry-after", "")
    return min(_MOST_PAUSE_S, float(given)) if given.isdecimal() else 0.0


def _checked_url(url: str, token: str | None) -> bool:
    """Whether the server is on this machine. Raises `InvalidInput` for what is no URL, and where a
    token would cross a network in the clear."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise InvalidInput("url", "is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
        raise InvalidInput("url", "must be an http or https URL without a user name")
    near = parts.host == "localhost" or _is_loopback(parts.host)
    if token is not None and parts.scheme != "https" and not near:
        raise InvalidInput("url", "must begin with https://, or anybody could read the token")
    return near


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
