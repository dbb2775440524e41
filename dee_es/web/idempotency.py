"""Repeated requests: the command id of a key, and the answer that was given before."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dee_es.engine.idempotency import RENEW_S, Attempt, Idempotency, Known
from dee_es.errors import DeeError
from dee_es.web.problems import Refused, problem_of

_log: Final = logging.getLogger("dee_es.web")
_HEADERS: Final = ("content-disposition", "content-type", "location")


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept."""

    status: int
    headers: dict[str, str]
    body: bytes


def command_id_of(actor: str, key: str) -> str:
    """The engine's command id for a caller's key: nobody's key can meet somebody else's."""
    name = actor.encode()
    given = key.encode("utf-8", "replace")
    parts = len(name).to_bytes(8, "big") + name + len(given).to_bytes(8, "big") + given
    return f"http.{hashlib.sha256(parts).hexdigest()[:48]}"


async def once(
    idempotency: Idempotency,
    actor: str,
    key: str,
    request: Request,
    handle: Callable[[Request], Awaitable[Response]],
) -> Response:
    """The answer given before to this very request under this key, else that of the handler now.

    Requests and answers are kept in the database for a day, so that a repetition after a restart,
    or at another server, is known as well. What was refused did nothing, and repeating it is
    another try. Raises `Refused` if the key was used for another request, or an attempt is under
    way.
    """
    begun = await run_in_threadpool(
        idempotency.begin, command_id_of(actor, key), f"{actor}\0{key}", await _digest(request)
    )
    if isinstance(begun, Known):
        return _repeated(begun)
    async with _alive(idempotency, begun):
        try:
            response = await handle(request)
        except BaseException as error:
            await _settled(idempotency, begun, None, acted=_may_have_acted(error))
            raise
        status = response.status_code
        kept = _kept(response) if 200 <= status < 300 else None
        await _settled(idempotency, begun, kept, acted=not 400 <= status < 500)
    return response


def _repeated(known: Known) -> Response:
    if not known.same:
        raise reused()
    if known.answer is None:
        raise Refused(
            409,
            "CallUnderWay",
            "an attempt under this Idempotency-Key is under way; ask again in a moment",
            {"Retry-After": "1"},
        )
    answer = msgspec.msgpack.decode(known.answer, type=_Answer)
    return Response(answer.body, answer.status, {**answer.headers, "Idempotent-Replay": "true"})


def _kept(response: Response) -> bytes:
    headers = {name: value for name, value in response.headers.items() if name in _HEADERS}
    return msgspec.msgpack.encode(_Answer(response.status_code, headers, bytes(response.body)))


def _may_have_acted(error: BaseException) -> bool:
    """Whether something may have been done before the handler failed like that."""
    if isinstance(error, DeeError):
        return problem_of(error, "").status >= 500
    refused = (Refused, RequestValidationError, HTTPException, OverflowError)
    return not isinstance(error, refused)


async def _settled(
    idempotency: Idempotency, attempt: Attempt, answer: bytes | None, *, acted: bool
) -> None:
    # Also when the request is being cancelled: nobody should wait for an attempt that is over.
    with anyio.CancelScope(shield=True):
        try:
            if acted:
                await run_in_threadpool(idempotency.end, attempt, answer)
            else:
                await run_in_threadpool(idempotency.drop, attempt)
        except DeeError as error:
            # The request itself is over, and the log knows it: only its answer cannot be repeated.
            _log.warning("answer_not_kept", extra={"error": type(error).__name__})


@asynccontextmanager
async def _alive(idempotency: Idempotency, attempt: Attempt) -> AsyncIterator[None]:
    """Say now and then that the attempt is under way, for as long as it takes."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await run_in_threadpool(idempotency.renew, attempt)
            except DeeError as error:
                _log.warning("call_not_renewed", extra={"error": type(error).__name__})

    task: asyncio.Task[Any] = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def reused() -> Refused:
    """The refusal of a key that was used for another request."""
    return Refused(422, "IdempotencyKeyReused", "this Idempotency-Key was used for another call")


async def _digest(request: Request) -> bytes:
    body = await request.body()
    parts = (request.method, request.url.path, request.url.query)
    head = "\0".join(parts).encode("utf-8", "replace")
    return hashlib.sha256(head + b"\0\0" + body).digest()
