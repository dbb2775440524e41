"""A channel that only remembers, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from dee_es.core.channels import CHANNELS
from dee_es.core.messages.message import message_id
from dee_es.ports import Action, ChannelResult, SendContext

Answer = Callable[[Action, SendContext], ChannelResult]
"""Decides the result of an attempt; what it raises is raised by `send`."""


class MemoryChannel:
    """Keeps every attempt in `sent`, in order, and answers as it was told.

    `answers` is a function, or the results of the first attempts in order; without an answer an
    email is delivered and a call stays pending. Safe to share between threads.
    """

    name = "memory"

    def __init__(
        self,
        answers: Answer | Iterable[ChannelResult] = (),
        *,
        kinds: Iterable[str] = CHANNELS,
    ) -> None:
        self.kinds = frozenset(kinds)
        self.sent: list[tuple[Action, SendContext]] = []
        self.closed = False
        self._lock = threading.Lock()
        self._decide = answers if callable(answers) else None
        self._script = iter(() if callable(answers) else tuple(answers))

    @property
    def actions(self) -> list[Action]:
        """The actions of all attempts so far."""
        with self._lock:
            return [action for action, _ in self.sent]

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Remember the attempt and answer it; a kind that is not served fails and is not kept."""
        if action.channel not in self.kinds:
            return ChannelResult("failed", error="invalid channel: is not one that memory serves")
        with self._lock:
            self.sent.append((action, context))
            scripted = next(self._script, None)
        if scripted is not None:
            return scripted
        if self._decide is not None:
            return self._decide(action, context)
        return ChannelResult(
            "pending" if action.channel == "voice" else "delivered", message_id(action.key)
        )

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
