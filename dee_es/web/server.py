"""The application on a socket, until a signal."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Final

import uvicorn

from dee_es.engine.facade import EngineApi
from dee_es.errors import InvalidInput, MasterKeyRotated
from dee_es.web.app import create_app
from dee_es.web.connections import BoundedConnection
from dee_es.web.settings import WebSettings
from dee_es.web.upkeep import kept_level, master_key_watched

_BACKLOG: Final = 128
_AT_ONCE: Final = 256
_LAST_SECONDS: Final = 5
_UNREAD_MS: Final = 30_000
"""For how long a client may take nothing of what it was sent, in ms."""


def serve(engine: EngineApi, settings: WebSettings, on_ready: Callable[[str], object]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is told the address once requests are taken.

    Requests under way are finished, jobs end after their batch; meanwhile projections are kept
    level with the log. Port 0 is any free one. Raises `InvalidInput` if the address cannot be had
    or would not be safe, and `MasterKeyRotated`, after what is under way, once the master key was
    replaced.
    """
    with _listening(settings) as listener:
        port = int(listener.getsockname()[1])
        app = create_app(engine, replace(settings, port=port))
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            access_log=False,
            # Warnings tell of every request that strangers get wrong, as often as they like.
            log_level="error",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=_AT_ONCE,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        server = _Server(config, lambda: on_ready(address(settings.host, port)))
        rotated: list[MasterKeyRotated] = []

        def end(error: MasterKeyRotated) -> None:
            rotated.append(error)
            server.should_exit = True

        try:
            with kept_level(engine), master_key_watched(engine, end):
                server.run([listener])
        finally:
            app.close()
        if rotated:
            raise rotated[0]


def address(host: str, port: int) -> str:
    """The URL of the server."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Server(uvicorn.Server):
    """A server that says when it is ready, and for which a signal is a good end."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let both signals end the server; a second one ends the program the usual way."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            signal.signal(number, before[signal.Signals(number)])
            self.should_exit = True

        before = {
            number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _listening(settings: WebSettings) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        why = error.strerror or "the address is not known"
        raise InvalidInput(
            "host, port", f"{settings.host} port {settings.port} cannot be had: {why}"
        ) from None
    with listener:
        # What is accepted inherits it. asyncio, where there is no uvloop, sets it only on sockets
        # that name their protocol; without it the second half of an answer waits 40 ms for the
        # client's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # Inherited as well: what is written for somebody who does not read it waits for ever,
            # also behind a connection that is closed already, and counts as one that is at work.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
        yield listener
