"""Ways out: what is sent, and what a channel says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from dee_es.core.events import Message


class Action(msgspec.Struct, frozen=True, gc=False):
    """One attempt to send: what, for which run and step, and under which idempotency key."""

    run_id: str
    step_id: str
    channel: str
    key: str
    attempt: int
    message: Message


class SendContext(msgspec.Struct, frozen=True, gc=False):
    """What a channel may need besides the message: who sends, and the time of the tick in ms since
    1970 UTC (dates in messages come from it, never from the wall clock)."""

    sender_address: str
    sender_name: str | None
    postal_address: str | None
    time_ms: int
    unsubscribe_url: str | None = None


ForgetRuns = Callable[[Sequence[str]], None]
"""Forgets what channels keep of runs outside the log; nothing if they keep nothing of them."""


class ChannelResult(msgspec.Struct, frozen=True, gc=False):
    """What the channel says about an attempt.

    `failed` with `retryable` may pass by itself; with `ours` nothing was handed over because of
    our own settings, such as a wrong password: it is tried again until they are put right.
    `unknown` means it may have arrived. `error` names the kind of failure without personal data;
    `detail` may hold some and is stored encrypted.
    `message_id` is the engine's own, never a provider's.
    """

    status: Literal["delivered", "failed", "pending", "unknown"]
    message_id: str | None = None
    error: str = ""
    retryable: bool = False
    detail: Mapping[str, Any] = {}
    ours: bool = False


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An attempt that was made: what of it is known without its message."""

    run_id: str
    step_id: str
    channel: str
    key: str
    attempt: int
    time_ms: int


class Channel(Protocol):
    """A way out. `send` is called outside any transaction, at most once for an attempt."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[str]:
        """The step channels it serves: `email`, `voice`."""
        ...

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Make the attempt. An exception means that the outcome is unknown, unless it is
        `ChannelFailed`: then the attempt did not begin."""
        ...

    def close(self) -> None:
        """Finish and release connections."""
        ...


@runtime_checkable
class LeavesFiles(Protocol):
    """A channel whose sends are files in this installation."""

    def files_of(self, sent: Sent) -> Sequence[str]:
        """The files of an attempt, whether or not somebody has fetched them since."""
        ...
