"""A channel that is built when it is first needed.

Whoever only looks at runs needs none of the settings that placing a call takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.ports import Action, Channel, ChannelResult, SendContext


class LazyChannel:
    """Stands for the channel that `build` makes; safe to share between threads."""

    def __init__(self, name: str, kinds: Iterable[str], build: Callable[[], Channel]) -> None:
        self.name = name
        self.kinds = frozenset(kinds)
        self._build = build
        self._built: Channel | None = None
        self._lock = threading.Lock()

    def prepare(self) -> Channel:
        """The channel itself, built now if it was not yet.

        Raises what `build` raises: `InvalidInput` naming a setting, or `StoreUnavailable`.
        """
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Make the attempt. While the channel cannot be built an attempt fails before it begins,
        and may be tried again: settings can be put right."""
        try:
            channel = self.prepare()
        except (InvalidInput, StoreUnavailable) as error:
            ours = isinstance(error, InvalidInput)
            return ChannelResult("failed", error=str(error), retryable=True, ours=ours)
        return channel.send(action, context)

    def close(self) -> None:
        """Close the channel, if there is one by now."""
        with self._lock:
            if self._built is not None:
                self._built.close()
