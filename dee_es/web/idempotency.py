"""Repeated calls: the command id of a key, and the answer that was given before."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request, Response

from dee_es.web.problems import Refused

_MOST: Final = 2_000
_MOST_BYTES: Final = 16 * 1024 * 1024


def command_id_of(actor: str, key: str) -> str:
    """The engine's command id for a caller's key: nobody's key can meet somebody else's."""
    name = actor.encode()
    given = key.encode("utf-8", "replace")
    parts = len(name).to_bytes(8, "big") + name + len(given).to_bytes(8, "big") + given
    return f"http.{hashlib.sha256(parts).hexdigest()[:48]}"


@dataclass(slots=True)
class _Kept:
    digest: bytes
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    response: tuple[int, dict[str, str], bytes] | None = None
    waiting: int = 0


class Answers:
    """Keeps the answers to calls that did something, for as long as this process has room.

    What was refused did nothing, and repeating it is another try. When an answer is no longer
    here, the engine itself sees from the command id that it has acted.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    async def once(
        self,
        command_id: str,
        request: Request,
        handle: Callable[[Request], Awaitable[Response]],
    ) -> Response:
        """The answer given before under this id, else that of the handler now.

        Raises `Refused` if the id was used for another call.
        """
        digest = await _digest(request)
        kept = self._kept.setdefault(command_id, _Kept(digest))
        if kept.digest != digest:
            raise reused()
        kept.waiting += 1
        try:
            # Two calls at once: the second waits and is answered like the first.
            async with kept.lock:
                if kept.response is not None:
                    status, headers, body = kept.response
                    return Response(body, status, headers)
                response = await handle(request)
                if 200 <= response.status_code < 300 and self._kept.get(command_id) is kept:
                    self._keep(kept, response)
                return response
        finally:
            kept.waiting -= 1
            if kept.response is None and not kept.waiting:
                self._kept.pop(command_id, None)
            self._bound()

    def _keep(self, kept: _Kept, response: Response) -> None:
        headers = {
            name: value
            for name, value in response.headers.items()
            if name in ("content-type", "location")
        }
        body = bytes(response.body)
        kept.response = (response.status_code, {**headers, "Idempotent-Replay": "true"}, body)
        self._bytes += len(body)

    def _bound(self) -> None:
        for command_id in list(self._kept):
            if len(self._kept) <= _MOST and self._bytes <= _MOST_BYTES:
                return
            # What is under way is still going to be answered.
            response = self._kept[command_id].response
            if response is not None:
                del self._kept[command_id]
                self._bytes -= len(response[2])


def reused() -> Refused:
    """The refusal of a key that was used for another call."""
    return Refused(422, "IdempotencyKeyReused", "this Idempotency-Key was used for another call")


async def _digest(request: Request) -> bytes:
    body = await request.body()
    parts = (request.method, request.url.path, request.url.query)
    head = "\0".join(parts).encode("utf-8", "replace")
    return hashlib.sha256(head + b"\0\0" + body).digest()
