"""Admission: who of a batch of contacts may be enrolled, and the first event of each run.

Nothing is written here. What comes out is ready to commit, and is made anew if by then the
circumstances have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from msgspec import Struct, field

from dee_es.core import codec
from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.contact import Person
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.gate import enrollment_block
from dee_es.core.ids import run_id, slice_of
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.run import enroll, evolve, first_due
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.contacts.index import suppression_facts
from dee_es.engine.definitions import pinned_streams, pins_at
from dee_es.engine.enrolling.parts import BETWEEN_LOOKS
from dee_es.engine.models import Refusal
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Runs
from dee_es.errors import InvalidInput
from dee_es.ports import (
    Head,
    KeyStore,
    Situation,
    StreamAppend,
    SuppressionGuard,
    Unit,
    beside,
)

_ENROLLED: Final = "already enrolled: run {run} has not ended"
_NEVER_AGAIN: Final = "already enrolled: run {run} has ended and the plan never enrolls again"
TWICE: Final = "already enrolled: the contact was given twice"
PAYLOAD: Final = "contact payload"
"""What is too large where a contact is: its own data, and the variables that its run keeps too."""
_by_run: Final = attrgetter("run_id")

T = TypeVar("T")
Refused = list[tuple[Person, Refusal]]


class Order(Struct, frozen=True):
    """One call that enrolls, the same for all of its contacts.

    Without `pins` each batch takes the versions that are published when it is assessed; `take_over`
    says that runs which this very command id created earlier count as created now.
    """

    plan: ExecutionPlan
    pins: e.Pins | None
    variables: dict[str, Any]
    command_id: str
    meta: Callable[[], e.Meta]
    start_tick: int | None = None
    take_over: bool = False


class Concerned(NamedTuple):
    """What has to be known about contacts: how these streams, and the keys of these contacts,
    stand. The streams of the contacts' first runs come first."""

    streams: list[str]
    contacts: list[str]


class Admitted(Struct, frozen=True, gc=False):
    """A contact that may be enrolled: as which run, and by what a suppression could name it."""

    person: Person
    run_id: str
    number: int
    subjects: tuple[str, ...]


_NOBODY: Final = Admitted(Person("-", None, None, None, {}), "", 1, ())


class Start(NamedTuple):
    """A run that can begin: what to commit for whom, and the key of what is personal in it."""

    run_id: str
    unit: Unit
    person: Person
    key_id: bytes


class Batch(Struct):
    """Contacts on their way: which runs can begin, by run id, and who was refused.

    `taken_over` are runs that this command had created before.
    """

    starts: list[Start] = field(default_factory=list)
    refusals: Refused = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        """What to commit, in the order of the starts."""
        return [start.unit for start in self.starts]

    @property
    def people(self) -> list[Person]:
        """Whose runs begin, in the order of the starts."""
        return [start.person for start in self.starts]

    def first_run(self) -> LoadedRun:
        """The first of these runs, as it is once it is committed."""
        _, unit, _, key_id = self.starts[0]
        (append,) = unit.appends
        begun = append.events[0]
        return LoadedRun(evolve(None, begun.recorded()), begun.checksum, key_id, append.slice)


class Admission:
    """Assesses contacts against the enrolment rule and the suppression list."""

    def __init__(self, runs: Runs, identities: Identities, keys: KeyStore) -> None:
        self._runs = runs
        self._identities = identities
        self._keys = keys
        self._store = runs.store

    def concerns(self, order: Order, people: Sequence[Person]) -> Concerned:
        """What decides whether these contacts may be enrolled."""
        first = [run_id(order.plan.id, person.id, 1) for person in people]
        pinned = [] if order.pins is not None else pinned_streams(order.plan)
        return Concerned(first + pinned, [person.id for person in people])

    def _assess(
        self, order: Order, people: Sequence[Person], known: tuple[Concerned, Situation] | None
    ) -> tuple[Situation, dict[str, list[Head]], list[Admitted], Refused]:
        """What is so, the runs of the plan that contacts have, who may be enrolled by that as often
        as they were given, and who may not and why."""
        if known is None:
            concerned = self.concerns(order, people)
            now = self._store.situation(*concerned)
        else:
            concerned, now = known
        first = concerned.streams[: len(people)]
        standing = self._standing(order.plan.id, people, first, now.heads)
        subjects = [
            self._identities.subjects(person.id, person.email, person.phone)
            for person in beside.each(people, BETWEEN_LOOKS)
        ]
        listed = now.end.suppression_epoch > 0
        facts = suppression_facts(self._store, subjects) if listed else [()] * len(people)
        channels = order.plan.graph.channels
        free: list[Admitted] = []
        refused: Refused = []
        for person, run, about, standing_facts in zip(people, first, subjects, facts, strict=True):
            before = standing.get(person.id, ())
            last = before[-1] if before else None
            fact = enrollment_block(order.plan.id, channels, standing_facts)
            if last is not None and (not last.ended or order.plan.reenroll == "never"):
                detail = (_NEVER_AGAIN if last.ended else _ENROLLED).format(run=last.stream_id)
                refused.append((person, Refusal(person.id, "already_enrolled", detail)))
            elif fact is not None:
                refused.append((person, Refusal(person.id, "suppressed", f"suppressed: {fact}")))
            else:
                number = len(before) + 1
                new = run if number == 1 else run_id(order.plan.id, person.id, number)
                free.append(Admitted(person, new, number, about))
        return now, standing, free, refused

    def _standing(
        self,
        plan_id: str,
        people: Sequence[Person],
        first: Sequence[str],
        heads: Mapping[str, Head],
    ) -> dict[str, list[Head]]:
        """The runs of the plan that contacts have, by enrolment number, found by derived ids.

        Numbers are dense, so whoever has no first run has none; the others are asked for in growing
        strides.
        """
        found = {
            person.id: [heads[run]]
            for person, run in zip(people, first, strict=True)
            if run in heads
        }
        asking, number, width = list(found), 2, 4
        while asking:
            ids = {
                run_id(plan_id, who, n): who
                for who in asking
                for n in range(number, number + width)
            }
            further = self._store.heads(list(ids))
            for run, who in ids.items():
                if run in further:
                    found[who].append(further[run])
            number += width
            asking = [who for who in asking if len(found[who]) == number - 1]
            width *= 4
        return found

    def prepare(
        self,
        order: Order,
        people: Sequence[Person],
        known: tuple[Concerned, Situation] | None = None,
    ) -> Batch:
        """The first events of those who may be enrolled, ready to commit, by run id.

        `known` is what `concerns` names and how it stands; it is asked for unless it is given.
        """
        now, standing, free, refused = self._assess(order, people, known)
        mine = self._created(order.command_id, standing) if order.take_over else {}
        # Made in the order in which they are committed, they lie side by side in memory until then.
        free = sorted((each for each in free if each.person.id not in mine), key=_by_run)
        starts, unfit = self._each_once(order, now.heads, free, self._sealing(now, free))
        return Batch(
            starts,
            [pair for pair in refused if pair[0].id not in mine]
            + _given_again([each for each in people if each.id in mine])
            + unfit,
            sorted(mine.values()),
        )

    def _each_once(
        self,
        order: Order,
        heads: Mapping[str, Head],
        free: Sequence[Admitted],
        make: Callable[[Admitted, Sequence[e.Event], e.Meta], T],
    ) -> tuple[list[T], Refused]:
        """What is made of the first events of each contact. Refused are those of whom it was made
        already, and those who are too large to be stored, for whom `make` raises `InvalidInput`.
        """
        meta, begun = self._beginning(order, heads)
        made: list[T] = []
        known: set[str] = set()
        refused: Refused = []
        for each in beside.each(free, BETWEEN_LOOKS):
            who = each.person
            if who.id in known:
                refused.append((who, Refusal(who.id, "already_enrolled", TWICE)))
                continue
            events = begun(each)
            try:
                made.append(make(each, events, meta))
            except InvalidInput as error:
                problem = f"{PAYLOAD}: {error.problem}"
                refused.append((who, Refusal(who.id, "invalid", problem)))
            else:
                known.add(who.id)
        return made, refused

    def _sealing(
        self, now: Situation, free: Sequence[Admitted]
    ) -> Callable[[Admitted, Sequence[e.Event], e.Meta], Start]:
        """What makes the first events of these contacts' runs ready to be committed."""
        key_ids, epoch = now.keys, now.end.suppression_epoch
        fresh = iter(self._keys.new_keys(sum(each.person.id not in key_ids for each in free)))
        keyed, seal = self._keys.encrypts, self._runs.journal.seal

        def start(each: Admitted, events: Sequence[e.Event], meta: e.Meta) -> Start:
            who, run = each.person, each.run_id
            own = key_ids.get(who.id)
            key_id = own if own is not None else next(fresh)
            sealed = seal(run, 0, GENESIS, events, meta, key_id)
            append = StreamAppend(run, 0, sealed, first_due(events), False, slice_of(who.id))
            unit = Unit(
                (append,),
                min_tick=meta.tick,
                contact_keys=((who.id, key_id),) if own is None and keyed else (),
                guard=SuppressionGuard(each.subjects, epoch),
            )
            return Start(run, unit, who, key_id)

        return start

    def _beginning(
        self, order: Order, heads: Mapping[str, Head]
    ) -> tuple[e.Meta, Callable[[Admitted], list[e.Event]]]:
        """What the first events of all runs carry, and what makes those of one of them."""
        meta = order.meta()
        materials = c.Materials(order.plan, {}, {}, None, self._runs.clock.scale)
        pins = order.pins if order.pins is not None else pins_at(order.plan, heads)
        variables, start_tick = order.variables, order.start_tick

        def begun(each: Admitted) -> list[e.Event]:
            who = each.person
            personal = e.Enrolled(who.email, who.phone, who.timezone, who.attributes, variables)
            return enroll(
                materials,
                c.Enroll(meta, each.run_id, who.id, each.number, personal, pins, start_tick),
            )

        return meta, begun

    def rehearse(self, order: Order, people: Sequence[Person]) -> tuple[list[Person], Refused]:
        """Who would be enrolled by now, and who would not and why. Unlike `prepare` it makes no
        keys, and does not ask what the command did before."""
        now, _, free, refused = self._assess(order, people, None)

        def encoded(each: Admitted, events: Sequence[e.Event], meta: e.Meta) -> Person:
            (event,) = events
            codec.encode(event, meta)
            return each.person

        enrolled, unfit = self._each_once(order, now.heads, free, encoded)
        return enrolled, refused + unfit

    def require_room(self, order: Order) -> None:
        """Raises `InvalidInput` for variables beside which no contact would have room."""
        meta, begun = self._beginning(order, {})
        (event,) = begun(_NOBODY)
        try:
            codec.encode(event, meta)
        except InvalidInput as error:
            raise InvalidInput("variables", error.problem) from None

    def created(self, plan_id: str, person: Person, command_id: str) -> str | None:
        """The contact's last run of the plan that this very command created before."""
        first = run_id(plan_id, person.id, 1)
        standing = self._standing(plan_id, [person], [first], self._store.heads([first]))
        return self._created(command_id, standing).get(person.id)

    def _created(self, command_id: str, standing: Mapping[str, Sequence[Head]]) -> dict[str, str]:
        """By contact, the last of its runs that an earlier try of this very command created: it
        counts as created by it, whatever has become of the run and of the contact since."""
        owners = {head.stream_id: who for who, heads in standing.items() for head in heads}
        rows = self._store.read_first(list(owners)) if owners else {}
        return {
            owners[each.stream_id]: each.stream_id
            for each in self._runs.journal.open_public(rows.values())
            if each.meta.command_id == command_id
        }


def _given_again(people: Iterable[Person]) -> Refused:
    """The refusals of those who were given before."""
    given: set[str] = set()
    refused = []
    for person in people:
        if person.id in given:
            refused.append((person, Refusal(person.id, "already_enrolled", TWICE)))
        given.add(person.id)
    return refused
