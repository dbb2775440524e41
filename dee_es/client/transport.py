"""Requests to a `dee serve`, repeated safely, and its problems as the engine's errors."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import httpx

from dee_es import errors
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
_TRY_AGAIN: Final = frozenset({408, 429, 503})
_TRANSITION = re.compile(r"run (\S+) cannot go from (\S+) to (\S+?)(?::|\Z)")
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_PLAN = re.compile(r"plan '([^']*)'")


class ApiRefused(DeeError):
    """The server refused the call for a reason of its own, such as a role: `status` and `error`
    are those of the problem it answered with."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        self.status, self.error = status, error
        super().__init__(f"{error}: {detail}")


class Transport:
    """Makes requests; those that change something carry a key, so that repeating them is safe."""

    def __init__(self, url: str, token: str | None, timeout_s: float, verify: bool | str) -> None:
        headers = {"X-Dee-Request": "1", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            base_url=url.rstrip("/") + API, headers=headers, timeout=timeout_s, verify=verify
        )

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answers."""
        given = {name: _text(value) for name, value in query.items() if value is not None}
        return self._send("GET", path, params=given).json()

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        changes: bool = True,
    ) -> Any:
        """What a POST answers; `key` is the Idempotency-Key, made up if none is given."""
        given = {name: _json(value) for name, value in (body or {}).items() if value is not None}
        headers = {"Idempotency-Key": key or secrets.token_urlsafe(24)} if changes else {}
        return self._send("POST", path, json=given, headers=headers).json()

    def content(self, path: str) -> bytes:
        """The bytes of a file."""
        return self._send("GET", path).content

    def delete(self, path: str) -> None:
        """Make a DELETE."""
        self._send("DELETE", path)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        lost = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S * 2 ** (attempt - 1))
            try:
                answer = self._client.request(method, path, **options)
            except httpx.TransportError as error:
                lost = type(error).__name__
                continue
            if answer.is_success:
                return answer
            if answer.status_code not in _TRY_AGAIN or attempt == _ATTEMPTS - 1:
                raise error_of(answer)
        raise StoreUnavailable(f"the server did not answer ({lost}); nothing is known to be done")


def error_of(answer: httpx.Response) -> DeeError:
    """The error that a problem stands for."""
    try:
        said = answer.json()
        name, detail = str(said["error"]), str(said["detail"])
    except (ValueError, KeyError, TypeError):
        return ApiRefused(answer.status_code, "NotAnApi", "the answer is none of a `dee serve`")
    return problem_error(name, detail, answer.status_code, said)


def problem_error(name: str, detail: str, status: int, said: Mapping[str, Any]) -> DeeError:
    """The same by the members of a problem."""
    if name == "InvalidInput":
        field = in_python(str(said.get("field", "")))
        return InvalidInput(field, detail.partition(": ")[2] or detail)
    if name == "PlanValidationError":
        plan = _PLAN.match(detail)
        faults = [
            PlanFault(each["stepId"], each["problem"], each["remedy"])
            for each in said.get("faults", ())
        ]
        return PlanValidationError(plan[1] if plan else "", faults)
    moved = _TRANSITION.match(detail)
    if name == "InvalidTransition" and moved is not None:
        run_id, source, target = moved.groups()
        return InvalidTransition(run_id, source, target, detail[moved.end() :].strip())
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DeeError) and kind.__init__ is DeeError.__init__:
        return kind(detail)
    return ApiRefused(status, name, detail)


def in_python(field: str) -> str:
    """A field by its name in Python: `startAt` as `start_at`."""
    head, dot, rest = field.partition(".")
    return _HUMP.sub(lambda hump: f"_{hump[1].lower()}", head) + dot + rest


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_text(each) for each in value]
    return str(value)


def _json(value: Any) -> Any:
    return _moment(value) if isinstance(value, datetime) else value


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise InvalidInput("time", "has no time zone; use an aware datetime such as one in UTC")
    return value.isoformat()
