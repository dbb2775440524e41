"""Suppression lists from outside, many entries at a time."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, ValidationError

from dee_es.engine.models import Answer, SuppressionEntry
from dee_es.errors import DeeError, InvalidInput
from dee_es.web.api.models import EntryFault, Flag, Given, Text
from dee_es.web.problems import first_fault
from dee_es.web.routing import OPERATOR, VIEWER, ActorDep, CommandDep, EngineDep, api_router

router: Final = api_router("contacts")

_MOST: Final = 10_000


class EntryGiven(Given):
    """One entry: an id, an address, or several of them; what is left out is as for the list."""

    contact_id: str | None = None
    email: str | None = None
    phone: str | None = None
    level: str | None = None
    scope: str | None = None
    reason: str | None = None


class SuppressionList(Given):
    """Entries, each looked at on its own, and what holds for those that do not say: `level`, its
    `scope` (the channel or plan of the levels of these names) and `reason`."""

    entries: list[Any] = Field(max_length=_MOST)
    level: str = "regulatory"
    scope: str = ""
    reason: Text | None = None
    dry_run: Flag = False


class Imported(Answer):
    """What became of the entries: put on the list, on it already, or not usable; the three counts
    add up to their number."""

    added: int
    already: int
    errors: int
    faults: tuple[EntryFault, ...]


class Address(Given):
    """What a contact is known by."""

    email: str | None = None
    phone: str | None = None


class Identified(Answer):
    """The opaque id of a contact."""

    contact_id: str


@router.post(
    "/contacts/suppress/batch", openapi_extra=OPERATOR, summary="Take in a suppression list"
)
def import_suppressions(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: SuppressionList
) -> Imported:
    """Put people on the suppression list, all in one transaction; nobody needs to be a contact yet.
    An entry that cannot be used is told among the faults and never stops the rest."""
    faults: list[EntryFault] = []
    entries: list[SuppressionEntry] = []
    places: list[int] = []
    for index, each in enumerate(given.entries):
        try:
            entries.append(SuppressionEntry(**dict(EntryGiven.model_validate(each))))
            places.append(index)
        except ValidationError as error:
            field, problem = first_fault(error.errors(include_input=False, include_url=False))
            faults.append(EntryFault.of(index, InvalidInput(field, problem)))

    def on_error(number: int, error: DeeError) -> None:
        faults.append(EntryFault.of(places[number], error))

    found = engine.import_suppressions(
        entries,
        given.level,  # type: ignore[arg-type] # the engine refuses what is no level
        given.scope,
        given.reason,
        actor.name,
        dry_run=given.dry_run,
        on_error=on_error,
        batch_size=_MOST,
        command_id=command,
    )
    return Imported(
        added=found.added,
        already=found.already,
        errors=len(faults),
        faults=tuple(sorted(faults, key=lambda fault: fault.index)),
    )


@router.post("/contacts/identify", openapi_extra=VIEWER, summary="The id behind an address")
def identify(engine: EngineDep, given: Address) -> Identified:
    """The id under which a contact is kept that is known by an address only: a keyed digest, equal
    for equal addresses. Nothing is written."""
    return Identified(contact_id=engine.contact_id_for(email=given.email, phone=given.phone))
