"""Channel events over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from dee_es.client.bulk import own_key
from dee_es.client.transport import Transport, key_given, knowing, problem_error
from dee_es.core.clock import require_utc
from dee_es.core.runs.channel_events import EVENT_TYPES
from dee_es.core.values import check_count, check_id, check_map
from dee_es.engine.models import ChannelEvent, IngestResult, OnEntryError, OnIngest
from dee_es.errors import DeeError, InvalidInput

MAX_BATCH: Final = 10_000
_BYTES: Final = 512 * 1024


class ChannelEventsClient:
    """Takes channel events to the server."""

    _http: Transport

    def ingest_event(
        self,
        type: str,
        contact_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        event_id: str | None = None,
        *,
        command_id: str | None = None,
    ) -> bool:
        """Record what happened to a message or call; without a contact, that of the run."""
        body = {
            "type": type,
            "contactId": contact_id,
            "runId": run_id,
            "stepId": step_id,
            "data": None if data is None else check_map("data", data),
            "occurredAt": occurred_at,
            "eventId": event_id,
        }
        return bool(self._http.post("/channel-events", body, key=command_id)["accepted"])

    def ingest_events(
        self,
        events: Iterable[ChannelEvent],
        batch_size: int = 500,
        on_progress: OnIngest | None = None,
        on_error: OnEntryError | None = None,
        *,
        command_id: str | None = None,
    ) -> IngestResult:
        """Record many channel events, at most `batch_size` in a request; any iterable is read in
        flat memory. One that cannot be used is counted, told to `on_error`, and never stops the
        rest."""
        check_count("batch_size", batch_size, MAX_BATCH)
        key = key_given(command_id)
        result, batch = IngestResult(), _Batch()
        for number, event in enumerate(events):
            try:
                given = _given(event)
            except InvalidInput as error:
                _refuse(result, number, error, on_error)
                continue
            # By it one without an id of its own is known if the same call is made again.
            given.setdefault("eventId", own_key(key, number, given))
            size = len(json.dumps(given))
            if batch.events and (len(batch.events) == batch_size or batch.size + size > _BYTES):
                self._tell(batch, key, result, on_progress, on_error)
                batch = _Batch()
            batch.add(number, given, size)
        if batch.events:
            self._tell(batch, key, result, on_progress, on_error)
        return result

    def _tell(
        self,
        batch: _Batch,
        key: str,
        result: IngestResult,
        on_progress: OnIngest | None,
        on_error: OnEntryError | None,
    ) -> None:
        body = {"events": batch.events}
        own = own_key(key, batch.numbers[0], body)
        with knowing(lambda: _known(result)):
            found = self._http.post("/channel-events/batch", body, key=own)
        result.accepted += found["accepted"]
        result.known += found["known"]
        for fault in found["faults"]:
            error = problem_error(fault["error"], fault["detail"], 422, fault)
            _refuse(result, batch.numbers[fault["index"]], error, on_error)
        if on_progress is not None:
            on_progress(result)


class _Batch:
    """Events that go into one request, with their numbers among all."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.events: list[dict[str, Any]] = []
        self.size = 0

    def add(self, number: int, given: dict[str, Any], size: int) -> None:
        """Put one more in."""
        self.numbers.append(number)
        self.events.append(given)
        self.size += size


def _given(event: object) -> dict[str, Any]:
    """The event as the server takes it; raises `InvalidInput` as the engine does."""
    if not isinstance(event, ChannelEvent):
        raise InvalidInput("event", f"must be a ChannelEvent, not {type(event).__name__}")
    if event.type not in EVENT_TYPES:
        raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
    for field in ("contact_id", "step_id", "run_id"):
        value = getattr(event, field)
        if value is not None:
            check_id(field, value)
    if event.run_id is None and event.contact_id is None:
        raise InvalidInput("contact_id", "is missing; or give a run_id")
    moment: datetime | None = event.occurred_at
    given = {
        "type": event.type,
        "contactId": event.contact_id,
        "runId": event.run_id,
        "stepId": event.step_id,
        "occurredAt": None if moment is None else require_utc("occurred_at", moment).isoformat(),
        "eventId": None if event.event_id is None else check_id("event_id", event.event_id),
        "data": check_map("data", event.data),
    }
    return {name: value for name, value in given.items() if value is not None}


def _known(result: IngestResult) -> str:
    """How it stood after the last request that was done; nothing before the first."""
    told = result.accepted + result.known
    return f"{result.accepted} accepted, {result.known} known already" if told else ""


def _refuse(
    result: IngestResult, number: int, error: DeeError, on_error: OnEntryError | None
) -> None:
    result.errors += 1
    if on_error is not None:
        on_error(number, error)
