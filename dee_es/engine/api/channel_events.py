"""Channel events: what happened to messages and calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from dee_es.core.clock import require_utc
from dee_es.core.runs.channel_events import EVENT_TYPES, check_data
from dee_es.core.values import check_count, check_id, check_text
from dee_es.engine.api.base import ApiBase, checked_many
from dee_es.engine.contacts.channel_events import Meta
from dee_es.engine.contacts.received import Received
from dee_es.engine.models import ChannelEvent, IngestResult, OnEntryError, OnIngest
from dee_es.errors import DeeError, InvalidInput

MAX_BATCH: Final = 10_000


class ChannelEventsApi(ApiBase):
    """Takes channel events into the log, each with its contact and with its runs."""

    def ingest_event(
        self,
        type: str,
        contact_id: str,
        run_id: str | None = None,
        step_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        event_id: str | None = None,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record what happened to a message or call, with the contact and with its runs.

        Without `run_id` it reaches every run of the contact that has not ended. False if the
        `event_id` was accepted before, by another command than this. Raises `InvalidInput`,
        `RunNotFound`.
        """
        check_id("contact_id", contact_id)
        given = {} if data is None else data
        meta = self._meta("ingest", command_id, actor, None)
        event = ChannelEvent(type, contact_id, run_id, step_id, given, occurred_at, event_id)
        received = self._received(event, meta().command_id)
        (outcome,) = self._channel_events.ingest([received], meta)
        if isinstance(outcome, DeeError):
            raise outcome
        if outcome == "accepted":
            return True
        if command_id is None:
            return False
        return self._channel_events.was_taken_by(contact_id, received, meta().command_id)

    def ingest_events(
        self,
        events: Iterable[ChannelEvent],
        batch_size: int = 500,
        on_progress: OnIngest | None = None,
        on_error: OnEntryError | None = None,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> IngestResult:
        """Record many channel events, a batch in one transaction; any iterable is read in flat
        memory.

        The events of one contact apply in the order in which they are given. One that cannot be
        used is counted, told to `on_error`, and never stops the rest. A crash loses at most the
        batch in flight. Given again, events with an `event_id` are known; those without one are
        only under the same `command_id`.
        """
        check_count("batch_size", batch_size, MAX_BATCH)
        meta = self._meta("ingest", command_id, actor, None)
        chosen = meta().command_id
        result = IngestResult()
        source = enumerate(checked_many("events", events))
        while batch := list(islice(source, batch_size)):
            usable: dict[int, Received] = {}
            for number, event in batch:
                try:
                    usable[number] = self._received(event, f"{chosen[:100]}.{number}")
                except InvalidInput as error:
                    _count(result, number, error, on_error)
            self._ingest(usable, meta, result, on_error)
            if on_progress is not None:
                on_progress(result)
        return result

    def event_id_for(self, event: ChannelEvent) -> str | None:
        """An id made of the event itself, a keyed digest: equal for equal events, so that one that
        is told again is known. None for one without `occurred_at`, which nothing tells from
        another one like it. Raises `InvalidInput`."""
        checked = self._received(event, "")
        if event.occurred_at is None:
            return None
        # The moment itself: of two in one tick each is an event of its own.
        moment = require_utc("occurred_at", event.occurred_at).isoformat()
        parts = [event.type, event.contact_id, event.run_id, event.step_id, moment, checked.data]
        text = msgspec.json.encode(parts, order="sorted").decode()
        return f"same-{self._parts.keys.digest('channel event', text)[:40]}"

    def _ingest(
        self,
        usable: Mapping[int, Received],
        meta: Meta,
        result: IngestResult,
        on_error: OnEntryError | None,
    ) -> None:
        outcomes = self._channel_events.ingest(list(usable.values()), meta)
        for number, outcome in zip(usable, outcomes, strict=True):
            if isinstance(outcome, DeeError):
                _count(result, number, outcome, on_error)
            elif outcome == "accepted":
                result.accepted += 1
            else:
                result.known += 1

    def _received(self, event: object, event_id: str) -> Received:
        """The event with its parts checked; `event_id` is its id if it has none of its own."""
        if not isinstance(event, ChannelEvent):
            raise InvalidInput("event", f"must be a ChannelEvent, not {type(event).__name__}")
        kind = check_text("type", event.type)
        if kind not in EVENT_TYPES:
            raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
        contact, run, step = (
            None if value is None else check_id(field, value)
            for field, value in (
                ("contact_id", event.contact_id),
                ("run_id", event.run_id),
                ("step_id", event.step_id),
            )
        )
        if contact is None and run is None:
            raise InvalidInput("contact_id", "is missing; or give a run_id")
        occurred = self.clock.now()
        if event.occurred_at is not None:
            # What is told of a time before this database's own counts as from its beginning.
            moment = require_utc("occurred_at", event.occurred_at)
            occurred = max(0, self._parts.scale.tick_at(moment))
        unique = event_id if event.event_id is None else check_id("event_id", event.event_id)
        data = check_data(kind, event.data)
        return Received(kind, contact, run, step, data, occurred, unique)


def _count(
    result: IngestResult, number: int, error: DeeError, on_error: OnEntryError | None
) -> None:
    result.errors += 1
    if on_error is not None:
        on_error(number, error)
