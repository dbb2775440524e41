"""Settling a command: look how things stand, commit what follows, and look again.

Others may have been faster, and the answer to a commit may be lost on the way. The log knows what
came of it: a command is recorded under its id, so a look finds what it has done already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Struct

from dee_es.core import events as e
from dee_es.engine.log.committing import Committer
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import ConcurrencyConflict, InvalidInput, StoreUnavailable
from dee_es.ports import Committed, Unit

AnswerT = TypeVar("AnswerT")
T = TypeVar("T")

ATTEMPTS: Final = 10
"""How often a command is decided anew before its caller hears of the conflict."""


class Standing(Struct, Generic[AnswerT], frozen=True):
    """Nothing is to be committed: this is how things stand already."""

    answer: AnswerT


class Wanted(Struct, Generic[AnswerT], frozen=True):
    """What is to be committed, and the answer once it is."""

    unit: Unit
    answer: Callable[[Committed], AnswerT]


def at_once(count: int, refused: int) -> int:
    """How many of `count` to try together that were refused so often: all, half, a quarter of them.

    What takes longer than a tick to be decided is refused for as long as others record something in
    every tick; fewer are decided sooner.
    """
    return max(1, count >> refused)


def in_parts(what: Sequence[T], refused: int) -> Iterator[Sequence[T]]:
    """What was refused so often, in parts that are to be tried together."""
    size = at_once(len(what), refused)
    for begin in range(0, len(what), size):
        yield what[begin : begin + size]


def first_by(command_id: str, history: Iterable[e.RecordedEvent]) -> e.RecordedEvent | None:
    """The first event that was recorded under a command's id, None if there is none."""
    return next((each for each in history if each.meta.command_id == command_id), None)


def reused(known: e.Meta) -> InvalidInput:
    """The refusal of a command whose id another one, `known`, was recorded under: taken for a
    repetition, it would never be done."""
    text = f"was used by another command ({known.command}) at tick {known.tick}"
    return InvalidInput("command_id", f"{text}; give each command an id of its own")


def settle(
    committer: Committer,
    clock: EngineClock,
    look: Callable[[], Standing[AnswerT] | Wanted[AnswerT]],
    what: str,
    attempts: int = ATTEMPTS,
) -> AnswerT:
    """The answer to a command, which `look` decides by how things stand, anew at each attempt.

    `look` has to find what this very command has done before: after a lost answer nothing is
    committed again. Raises what `look` raises, `ConcurrencyConflict` if `what` kept changing at all
    attempts, and `StoreUnavailable` if a commit failed of which the log knows nothing.
    """
    for _ in range(attempts):
        found = look()
        if isinstance(found, Standing):
            return found.answer
        try:
            result = committer.commit([found.unit])[0]
        except StoreUnavailable:
            # The commit may have happened although its answer was lost; the log knows.
            again = look()
            if isinstance(again, Standing):
                return again.answer
            raise
        if isinstance(result, Committed):
            return found.answer(result)
        clock.refresh()
    raise ConcurrencyConflict(f"{what} kept changing under the command; try again")
