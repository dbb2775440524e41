"""A small host for the callbacks, for a worker that has no web server beside it.

It speaks plain HTTP and binds to this machine only, unless told otherwise: in front of it belongs
a proxy with TLS, as Twilio wants to see it.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any, Final

from dee_es.adapters.channels.twilio.callbacks import MAX_BODY, Reply
from dee_es.adapters.channels.twilio.recording import (
    Callbacks,
    Failed,
    Record,
    RecordedCallbacks,
)

_TIMEOUT_S: Final = 10.0
"""How long a single read or write may take; Twilio waits 15 seconds for a whole answer."""
_DEADLINE_S: Final = 30.0
"""After so long a connection is cut, however busy somebody keeps it."""
_MAX_REQUESTS: Final = 64
"""Requests under way at once; more are turned away, for Twilio to come again."""


class CallbackServer:
    """Answers requests in threads of its own, from its making until `close`."""

    def __init__(
        self,
        callbacks: RecordedCallbacks,
        host: str,
        port: int,
    ) -> None:
        self._server = _Server((host, port), callbacks)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="dee-callbacks", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Take no more requests and finish those under way."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> CallbackServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def serve_callbacks(
    callbacks: Callbacks,
    record: Record,
    host: str = "127.0.0.1",
    port: int = 0,
    on_error: Failed | None = None,
) -> CallbackServer:
    """Serve `callbacks` on `host` and `port` (0: any that is free) until it is closed.

    Each event is given to `record` before its request is answered; if that raises, the answer is a
    500, and Twilio tells again. `on_error` hears of such errors. Raises `OSError` if the port
    cannot be had.
    """
    return CallbackServer(RecordedCallbacks(callbacks, record, on_error), host, port)


class _Server(ThreadingHTTPServer):
    """The listening socket, with a bound on the number of threads."""

    # Those under way are waited for: an event that was recorded should be answered too.
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], callbacks: RecordedCallbacks) -> None:
        self.callbacks = callbacks
        self._slots = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(address, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = threading.Timer(_DEADLINE_S, _cut, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's concern, and a traceback would show its URL."""


def _cut(connection: socket) -> None:
    with suppress(OSError):
        connection.shutdown(SHUT_RDWR)


class _Request(BaseHTTPRequestHandler):
    """One request on a connection of its own (HTTP/1.0)."""

    server: _Server
    timeout = _TIMEOUT_S
    server_version = "dee-es"
    sys_version = ""
    connection: socket

    def do_POST(self) -> None:
        """Read the body, have it answered, reply."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._reply(Reply(411, body=b"the length of the request is missing"))
            return
        if len(length) > 9 or int(length) > MAX_BODY:
            self._reply(Reply(413, body=b"the request is too large"))
            return
        body = self.rfile.read(int(length))
        if len(body) == int(length):
            headers = dict(self.headers.items())
            self._reply(self.server.callbacks.answer("POST", self.path, headers, body))

    def do_GET(self) -> None:
        """Nothing is to be had by reading."""
        self._reply(Reply(405, body=b"only POST is answered here"))

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a URL holds what was pressed."""
