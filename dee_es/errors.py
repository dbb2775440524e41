"""Every error the engine raises on purpose, in one tree.

A message says what happened, to what, and what to do. It never holds personal data: fields are
named, their values are not shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_RUN_ID: Final = re.compile(r"run_[a-z2-7]{26}")


class DeeError(Exception):
    """Base of every error the engine raises on purpose."""


@dataclass(frozen=True, slots=True)
class PlanFault:
    """One fault of a plan: where it is, what is wrong and how to mend it."""

    step_id: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"step {self.step_id!r}: " if self.step_id is not None else ""
        return f"{where}{self.problem} ({self.remedy})"


class PlanValidationError(DeeError):
    """A plan has faults; all of them are listed at once in `faults`."""

    def __init__(self, plan_id: str, faults: Sequence[PlanFault]) -> None:
        self.plan_id = plan_id
        self.faults = tuple(faults)
        count = f"{len(self.faults)} fault" + ("" if len(self.faults) == 1 else "s")
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"plan {plan_id!r} has {count}:{lines}")


class PlanNotFound(DeeError):
    """No plan, or no such version of it, has been published."""


class RunNotFound(DeeError):
    """No run has this id."""

    @classmethod
    def named(cls, run_id: str) -> RunNotFound:
        """The error for a run that is not there; of what cannot be an id, how one looks."""
        told = f"there is no run {run_id}"
        if not _RUN_ID.fullmatch(run_id):
            told += ", since a run's id is run_ and 26 small letters and digits"
        return cls(f"{told}; `dee runs list` shows those there are")


class RunArchived(RunNotFound):
    """The run has ended and left the log for an archive."""

    @classmethod
    def within(cls, run_id: str, archive: int) -> RunArchived:
        """The error for a run that is in the archive of this number."""
        return cls(
            f"run {run_id} has left the log for archive {archive}: "
            f"`dee archive export {run_id} FILE` takes it out of there"
        )


class HoldInForce(DeeError):
    """A legal hold keeps something from being erased or archived; nothing was written."""


class InvalidTransition(DeeError):
    """The status table has no such transition; nothing was written."""

    def __init__(self, run_id: str, source: str, target: str, why: str = "") -> None:
        self.run_id, self.source, self.target = run_id, source, target
        detail = f": {why}" if why else ""
        super().__init__(f"run {run_id} cannot go from {source} to {target}{detail}")


class OutcomeUnknownError(InvalidTransition):
    """A send may or may not have arrived; a person has to settle it with `resolve_step`."""


class AlreadyEnrolled(DeeError):
    """The contact already has a run of this plan that blocks a new one."""


class ContactSuppressed(DeeError):
    """The contact is suppressed, so it cannot be enrolled."""


class PartlySuppressed(DeeError):
    """The contact is on the suppression list, but one of its runs cannot be read: that was not told
    (what it would send is refused all the same), and an address that it alone knows is not listed.
    """


class EmptyFilter(DeeError):
    """A bulk command was given no filter at all, which would hit every run."""


class InvalidInput(DeeError):
    """A value was refused at the door; `field` names it. Nothing was written."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class DefinitionNotFound(InvalidInput):
    """No template, script, sender or policy of this id, or no such version, has been published."""


class OutputExists(DeeError):
    """A file is there already, and was not to be written over; it is as it was."""


class ConcurrencyConflict(DeeError):
    """Others kept changing the same stream, or hold the scheduler; try again."""


class StoreUnavailable(DeeError):
    """The database did not answer within its bounded time; nothing is known to be written."""


class IntegrityViolation(DeeError):
    """The log contradicts itself: a row was changed, cut or forged."""


class KeyDestroyed(IntegrityViolation):
    """The key of an erased contact was asked to encrypt; nothing more is stored about it."""


class MasterKeyRotated(DeeError):
    """The key store's master key was replaced since it was opened, or before; nothing was written
    and nothing is lost: restart with the new master key."""


class UnknownEventVersion(DeeError):
    """The log holds an event, or an event version, that this code does not know."""


class ChannelFailed(DeeError):
    """A channel cannot be used as configured."""


UNREADABLE: Final = (IntegrityViolation, UnknownEventVersion)
"""What a run raises of which an entry was changed, or is of newer code."""


class ProjectionStuck(DeeError):
    """A projection met an event that it cannot fold."""


class TableGone(StoreUnavailable):
    """A projection's table was dropped while it was about to be read; another one serves now."""


class AnchorUnavailable(DeeError):
    """A place for checkpoints, exports or archives cannot be reached; nothing is known to be
    written there."""


class ProjectionUnavailable(DeeError):
    """The database serves a version of a projection that this code cannot read."""


class RebuildRefused(DeeError):
    """A rebuild ended before the swap; what was served before is served still."""
