"""A client's connection: how long a request's head on it may be and take.

Nothing behind it can look at a head that never ends. The parser in C knows neither
bound, and a connection that waits counts as one that is at work.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LIMIT: Final = 64 * 1024
"""Bytes, of a head and of the lines behind a body; what arrives with the last of them is read as
well."""
TIMEOUT_S: Final = 30.0


class BoundedConnection(HttpToolsProtocol):
    """A connection that is closed if a head on it is too long (431) or not there in time (408).

    Lines behind a body are read over: they come after all that looks at a request's headers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waited_for = False
        self._moved = False
        self._size = 0
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, unless there are too many of them that nothing comes of."""
        self._moved = False
        super().data_received(data)
        if self._waited_for or not self._moved:
            self._size += len(data)
            if self._size > LIMIT:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._timer is None and self._unanswered is None and not self.transport.is_closing():
            # Whatever comes between two requests ends the wait for the next one, but this.
            self._begin_wait()

    def on_message_begin(self) -> None:
        """Begin to wait for another head."""
        super().on_message_begin()
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of what follows a body."""
        if self._waited_for:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._end_wait()
        self._move()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # The parser takes what follows for another protocol, and nobody here speaks one.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of a body is there."""
        self._move()
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as if it had not asked."""

    def _move(self) -> None:
        self._moved, self._size = True, 0

    def _wait(self) -> None:
        self._waited_for, self._size = True, 0
        if self._timer is None:
            self._begin_wait()

    def _begin_wait(self) -> None:
        late = HTTPStatus.REQUEST_TIMEOUT
        self._timer = self.loop.call_later(TIMEOUT_S, self._refuse, late)

    def _end_wait(self) -> None:
        self._waited_for = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        self._end_wait()
        if self.transport.is_closing():
            return
        # An answer to a request before this one may be under way; then nothing may come between.
        last = self._unanswered
        own = last is not None and last.more_body and not last.response_started
        if last is None or (own and not self.pipeline):
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            head += "content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode())
        self.transport.close()

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        """The last request whose head is here, unless its answer has left whole."""
        last: RequestResponseCycle | None = self.cycle
        return None if last is None or last.response_complete else last
