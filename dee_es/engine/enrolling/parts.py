"""A bulk enrolment in parts, so that several processes can work on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.contact import Contact, Person, check_contact
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.engine.models import Refusal
from dee_es.errors import DeeError, InvalidInput
from dee_es.ports import beside

BETWEEN_LOOKS: Final = 8
"""Contacts that are worked on, a step for each of them, between two looks at what was begun."""

Given = Contact | Mapping[str, Any]
Part = list[Given]


@dataclass(frozen=True, slots=True)
class BulkOrder:
    """One call of `bulk_execute`, as all processes that share it know it: each of its runs has the
    same pins. `take_over` says that runs which it created already count as created now."""

    plan: ExecutionPlan
    pins: e.Pins
    variables: dict[str, Any]
    command_id: str
    actor: str
    take_over: bool


class PartDone(Struct, frozen=True):
    """What became of a part's contacts: how many runs were created, and who was refused."""

    created: int
    refusals: tuple[Refusal, ...]


ShareParts = Callable[[Iterable[Part | None], BulkOrder], Generator[PartDone, None, None]]
"""Has parts enrolled, perhaps by several processes, and tells what came of them in their order.
None among them is none: what follows has to wait for all before it."""


class Parts:
    """The contacts of a call in parts, and None before a part with somebody who is under way: what
    becomes of a contact given twice must not depend on who is faster."""

    def __init__(self, contacts: Iterable[Given], size: int) -> None:
        self._parts = batched(contacts, size)
        self._under_way: deque[set[str]] = deque()

    def __iter__(self) -> Iterator[Part | None]:
        for part in self._parts:
            ids = {each for each in map(_id_of, part) if each is not None}
            if not all(ids.isdisjoint(others) for others in self._under_way):
                yield None
            self._under_way.append(ids)
            yield part

    def done(self) -> None:
        """The first of those under way is done."""
        self._under_way.popleft()


def contact_of(given: Given) -> Person:
    """The contact that is meant; raises `InvalidInput` if it is none."""
    if isinstance(given, Contact):
        return Person(given.id, given.email, given.phone, given.timezone, given.attributes)
    if not isinstance(given, Mapping):
        raise InvalidInput("contact", f"must be a Contact or a map, not {type(given).__name__}")
    return check_contact(given if type(given) is dict else dict(given))


def contacts_of(part: Part, refuse: Callable[[Refusal], object]) -> list[Person]:
    """The contacts of a part; what is none is refused and left out."""
    people = []
    for given in beside.each(part, BETWEEN_LOOKS):
        try:
            people.append(contact_of(given))
        except DeeError as error:
            who = given.get("id") if isinstance(given, Mapping) else None
            known = who if isinstance(who, str) and len(who) <= 128 else None
            refuse(Refusal(known, "invalid", str(error)))
    return people


def batched(contacts: Iterable[Given], size: int) -> Iterator[Part]:
    """The contacts so many at a time."""
    source = iter(contacts)
    while part := list(islice(source, size)):
        yield part


def _id_of(given: object) -> str | None:
    """Whom a contact would be, if it is one."""
    known = given.get("id") if isinstance(given, Mapping) else getattr(given, "id", None)
    return known if isinstance(known, str) else None
