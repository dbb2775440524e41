"""Requests answered once their events are in the log, whatever server they came through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from dee_es.adapters.channels.twilio.callbacks import ChannelEvent, Reply

Record = Callable[[ChannelEvent], object]
"""Puts an event into the log, or raises; what it returns does not matter."""
Failed = Callable[[Exception], object]
"""Is told of an error that made a request fail."""


class Callbacks(Protocol):
    """What is needed of `TwilioCallbacks`."""

    def handle(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply: ...

    def recorded(self, reply: Reply) -> None: ...


class RecordedCallbacks:
    """Answers requests from any web server; safe to share between threads."""

    def __init__(
        self, callbacks: Callbacks, record: Record, on_error: Failed | None = None
    ) -> None:
        self._callbacks = callbacks
        self._record = record
        self._on_error = on_error

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply to a request, with its events recorded; a 500 if that was not possible, upon
        which Twilio tells again. `on_error` hears of it."""
        try:
            reply = self._callbacks.handle(method, url, headers, body)
            for event in reply.events:
                self._record(event)
            self._callbacks.recorded(reply)
        except Exception as error:
            if self._on_error is not None:
                self._on_error(error)
            return Reply(500, body=b"try again later")
        return reply
