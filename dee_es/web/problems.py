"""Errors as RFC 9457 problem details: one status a kind of error, never a value of anybody's."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from dee_es import errors as e
from dee_es.core.values import ID_PATTERN, ID_RULE, names_version, plan_id_fault
from dee_es.web.heads import takes_head

MEDIA_TYPE: Final = "application/problem+json"
_log: Final = logging.getLogger("dee_es.web")

# The most particular classes first: the first that fits decides.
STATUSES: Final[tuple[tuple[type[e.DeeError], int, str], ...]] = (
    (e.RunArchived, 410, "The run is in an archive"),
    (e.RunNotFound, 404, "There is no such run"),
    (e.PlanNotFound, 404, "There is no such plan"),
    (e.PlanValidationError, 422, "The plan has faults"),
    (e.DefinitionNotFound, 404, "There is no such definition"),
    (e.InvalidInput, 422, "A value was refused"),
    (e.EmptyFilter, 422, "No filter was given"),
    (e.OutcomeUnknownError, 409, "The outcome of a send is unknown"),
    (e.InvalidTransition, 409, "The run cannot change like that"),
    (e.AlreadyEnrolled, 409, "The contact is enrolled already"),
    (e.ContactSuppressed, 409, "The contact is suppressed"),
    (e.PartlySuppressed, 500, "The contact is listed, but a run of it cannot be read"),
    (e.HoldInForce, 409, "A legal hold is in force"),
    (e.OutputExists, 409, "The file is there already"),
    (e.ConcurrencyConflict, 409, "Somebody else was faster"),
    (e.RebuildRefused, 409, "The rebuild ended before the swap"),
    (e.KeyDestroyed, 410, "The contact was erased"),
    (e.IntegrityViolation, 500, "The log contradicts itself"),
    (e.MasterKeyRotated, 503, "The keys were locked anew"),
    (e.UnknownEventVersion, 500, "The log is newer than this program"),
    (e.ProjectionStuck, 500, "A projection is stuck"),
    (e.ChannelFailed, 502, "A channel cannot be used"),
    (e.AnchorUnavailable, 503, "A place outside cannot be reached"),
    (e.ProjectionUnavailable, 503, "A projection cannot be read"),
    (e.StoreUnavailable, 503, "The database does not answer"),
)
_RETRY_AFTER: Final = (e.ConcurrencyConflict, e.StoreUnavailable)
_PLAN_IDS: Final = ("plan_id", "planId")
_HTTP: Final = {404: "NotFound", 405: "MethodNotAllowed"}
_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")
_SNAKE = re.compile(r"[a-z]+(?:_[a-z]+)+\Z")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Fault(BaseModel):
    """One fault of a plan."""

    stepId: str | None  # noqa: N815 - as it is in JSON
    problem: str
    remedy: str

    @classmethod
    def of(cls, fault: e.PlanFault) -> Fault:
        """How a fault is shown: what has no form in UTF-8 is written out."""
        return cls(
            stepId=None if fault.step_id is None else _written(fault.step_id),
            problem=_written(fault.problem),
            remedy=_written(fault.remedy),
        )


class Problem(BaseModel):
    """What went wrong (RFC 9457). `error` is the name of the error class, `field` what is at fault
    in the request, `faults` those of a plan."""

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str
    field: str | None = None
    faults: list[Fault] | None = None


class Refused(Exception):
    """A request that is refused before the engine hears of it."""

    def __init__(
        self, status: int, error: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.error, self.detail = status, error, detail
        self.headers = dict(headers or {})
        super().__init__(detail)


def answer(
    status: int,
    error: str,
    detail: str,
    instance: str,
    *,
    title: str | None = None,
    field: str | None = None,
    faults: Sequence[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for a problem."""
    said = Problem(
        type=f"urn:dee:problem:{error}",
        title=title or _title(error),
        status=status,
        detail=detail,
        instance=instance,
        error=error,
        field=field,
        faults=None if faults is None else list(faults),
    )
    return JSONResponse(shown(said), status, dict(headers or {}), MEDIA_TYPE)


def shown(said: Problem) -> dict[str, Any]:
    """The problem as JSON values, without the members that say nothing."""
    return {name: value for name, value in said.model_dump().items() if value is not None}


def problem_of(error: e.DeeError, instance: str) -> Problem:
    """The problem that an engine's error is."""
    status, title = _known(error)
    detail, field, faults = " ".join(str(error).split()), None, None
    if isinstance(error, e.InvalidInput):
        field = in_json(error.field)
        detail = f"{field}: {error.problem}"
    if isinstance(error, e.PlanValidationError):
        detail = str(error).split("\n", 1)[0].rstrip(":")
        faults = [Fault.of(each) for each in error.faults]
    name = type(error).__name__
    return Problem(
        type=f"urn:dee:problem:{name}",
        title=title,
        status=status,
        detail=detail,
        instance=instance,
        error=name,
        field=field,
        faults=faults,
    )


def in_json(field: str) -> str:
    """A field by its name in JSON: `start_at` as `startAt`; what people named stays as it is."""
    head, dot, rest = field.partition(".")
    if _SNAKE.match(head):
        first, *others = head.split("_")
        head = first + "".join(word.capitalize() for word in others)
    return head + dot + rest


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(e.DeeError, _on_dee_error)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OverflowError, _on_overflow)
    app.add_exception_handler(Exception, _on_unforeseen)


def _known(error: e.DeeError) -> tuple[int, str]:
    for kind, status, title in STATUSES:
        if isinstance(error, kind):
            return status, title
    return 500, "The engine failed"


async def _on_dee_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, e.DeeError)
    said = problem_of(error, request.url.path)
    headers = {"Retry-After": "1"} if isinstance(error, _RETRY_AFTER) else {}
    return JSONResponse(shown(said), said.status, headers, MEDIA_TYPE)


async def _on_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    path = request.url.path
    return answer(error.status, error.error, error.detail, path, headers=error.headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    field, problem = first_fault(error.errors())
    detail = f"{field}: {problem}"
    return answer(422, "InvalidInput", detail, request.url.path, field=field)


def first_fault(faults: Sequence[Any]) -> tuple[str, str]:
    """The field at fault and what is wrong with it; never the value that was given."""
    first = faults[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        return "body", "is not valid JSON"
    if path and path[0] in ("body", "query", "path", "header") and len(path) > 1:
        path = path[1:]
    # A name of somebody's own making could be anything, an address too.
    field = ".".join(part if _WORD.match(part) else "(a key)" for part in path) or "body"
    if first["type"] == "extra_forbidden":
        return field, "is not known here"
    if first["type"] == "missing":
        return field, "is missing"
    return field, _in_our_words(first, field)


def _in_our_words(fault: Mapping[str, Any], field: str) -> str:
    """What is wrong, as the engine says it where it refuses the same."""
    told = fault.get("ctx", {})
    if fault["type"] in ("literal_error", "enum"):
        return f"must be {told['expected']}"
    if fault["type"] == "string_pattern_mismatch" and told["pattern"] == ID_PATTERN:
        if field.rpartition(".")[2] in _PLAN_IDS and names_version(str(fault.get("input", ""))):
            # Whatever has a plan in its path takes one version of it in the query.
            return plan_id_fault("version" if fault["loc"][0] == "path" else "")
        return ID_RULE
    return str(fault["msg"]).removeprefix("Value error, ")


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    name = _HTTP.get(error.status_code, "BadRequest")
    told = {404: "there is nothing at this address", 405: "the address does not take this method"}
    detail, headers = told.get(error.status_code, "the request cannot be read"), error.headers
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_allowed(request))}
    elif isinstance(error.__cause__, UnicodeDecodeError):
        detail = not_utf8(error.__cause__)
    return answer(error.status_code, name, detail, request.url.path, headers=headers)


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with a body that cannot be text; none of it is shown."""
    return f"the body is not UTF-8: it cannot be read from byte {error.start} on, counted from 0"


def _allowed(request: Request) -> list[str]:
    """All methods that the address takes; a router names those of one route."""
    found = [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    # Within the static files no route is found any more.
    found = found or ["GET"]
    return sorted([*found, "HEAD"] if "GET" in found and takes_head(request.url.path) else found)


async def _on_overflow(request: Request, error: Exception) -> JSONResponse:
    del error
    return answer(
        422, "InvalidInput", "a number or a time is beyond what can be counted", request.url.path
    )


async def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    # The text of an unforeseen error may hold anything: only its class is told, and only here.
    _log.error("request_failed", extra={"error": type(error).__name__})
    return answer(500, "InternalError", "the server failed at this request", request.url.path)


def _written(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _title(error: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error).capitalize()
