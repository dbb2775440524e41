"""Channel events: what happened to messages and calls, one or many at a time."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, ValidationError

from dee_es.core.runs.channel_events import EVENT_TYPES
from dee_es.engine.models import Answer, ChannelEvent
from dee_es.errors import DeeError, InvalidInput
from dee_es.web.api.models import EntryFault, Given, GivenId, UtcTime, Values
from dee_es.web.problems import first_fault
from dee_es.web.routing import OPERATOR, ActorDep, CommandDep, EngineDep, api_router

router: Final = api_router("channel events")

_MOST: Final = 10_000


class EventGiven(Given):
    """What happened. Without `runId` it reaches every run of the contact that has not ended; an
    `eventId` is accepted once."""

    type: str = Field(json_schema_extra={"enum": [*sorted(EVENT_TYPES)]})
    contact_id: GivenId | None = None
    run_id: GivenId | None = None
    step_id: GivenId | None = None
    data: Values = Field(default_factory=dict)
    occurred_at: UtcTime | None = None
    event_id: GivenId | None = None

    def event(self) -> ChannelEvent:
        """The event as the engine takes it."""
        return ChannelEvent(**dict(self))


class Batch(Given):
    """Events to take in; each is looked at on its own."""

    events: list[Any] = Field(max_length=_MOST)


class Accepted(Answer):
    """Whether the event is new: false if its `eventId` was accepted before."""

    accepted: bool


class Ingested(Answer):
    """What became of the events; the three counts add up to their number."""

    accepted: int
    known: int
    errors: int
    faults: tuple[EntryFault, ...]


@router.post("/channel-events", openapi_extra=OPERATOR, summary="Take in one event")
def ingest(engine: EngineDep, actor: ActorDep, command: CommandDep, given: EventGiven) -> Accepted:
    """Record what happened to a message or call, with the contact and with its runs."""
    if given.contact_id is None:
        contact_id = engine.get_run(_run_of(given)).contact_id
    else:
        contact_id = given.contact_id
    return Accepted(
        accepted=engine.ingest_event(
            given.type,
            contact_id,
            given.run_id,
            given.step_id,
            given.data,
            given.occurred_at,
            given.event_id,
            actor=actor.name,
            command_id=command,
        )
    )


@router.post("/channel-events/batch", openapi_extra=OPERATOR, summary="Take in many events")
def ingest_batch(engine: EngineDep, actor: ActorDep, command: CommandDep, given: Batch) -> Ingested:
    """Record many events, those of one contact in the order in which they are given. One that
    cannot be used is told among the faults and never stops the rest."""
    faults: list[EntryFault] = []
    events: list[ChannelEvent] = []
    places: list[int] = []
    for index, each in enumerate(given.events):
        try:
            events.append(EventGiven.model_validate(each).event())
            places.append(index)
        except ValidationError as error:
            field, problem = first_fault(error.errors(include_input=False, include_url=False))
            faults.append(EntryFault.of(index, InvalidInput(field, problem)))

    def on_error(number: int, error: DeeError) -> None:
        faults.append(EntryFault.of(places[number], error))

    found = engine.ingest_events(events, on_error=on_error, actor=actor.name, command_id=command)
    return Ingested(
        accepted=found.accepted,
        known=found.known,
        errors=len(faults),
        faults=tuple(sorted(faults, key=lambda fault: fault.index)),
    )


def _run_of(given: EventGiven) -> str:
    if given.run_id is None:
        raise InvalidInput("contact_id", "is missing; or give a runId")
    return given.run_id
