"""The engine as users see it: all groups of methods in one object, and its end of life."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from dee_es.engine.api.base import Parts
from dee_es.engine.api.bulk import BulkApi
from dee_es.engine.api.channel_events import ChannelEventsApi
from dee_es.engine.api.clock import ClockApi
from dee_es.engine.api.contacts import ContactsApi
from dee_es.engine.api.definitions import DefinitionsApi
from dee_es.engine.api.evidence import EvidenceApi
from dee_es.engine.api.history import HistoryApi
from dee_es.engine.api.holds import HoldsApi
from dee_es.engine.api.insights import InsightsApi
from dee_es.engine.api.portable import PortableApi
from dee_es.engine.api.replays import ReplaysApi
from dee_es.engine.api.runs import RunsApi

__all__ = ["EngineApi", "Parts"]


class EngineApi(
    DefinitionsApi,
    RunsApi,
    BulkApi,
    ContactsApi,
    HoldsApi,
    ChannelEventsApi,
    ClockApi,
    HistoryApi,
    InsightsApi,
    PortableApi,
    EvidenceApi,
    ReplaysApi,
):
    """Everything the Runs page promises, and the calls around it.

    Safe to share between threads; several processes may open one database. Every command takes an
    optional `command_id`: repeating a call under the same id never acts twice. Where the same run,
    contact or hold saw another command under it, that raises `InvalidInput`.
    """

    _closed = False

    def close(self) -> None:
        """Release everything the engine holds; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as stack:
            # Undone from the last to the first: sends end before their channels are closed.
            stack.callback(self._parts.store.close)
            stack.callback(self._parts.keys.close)
            for channel in self._parts.channels.values():
                stack.callback(channel.close)
            stack.callback(self._dispatcher.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
