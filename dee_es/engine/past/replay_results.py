"""What a replay answers with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from dee_es.engine.models import Answer
from dee_es.errors import RunArchived

_ARCHIVED: Final = RunArchived.__name__


class ReplayedStep(Answer):
    """One visit of a step, then and now; None where there was no such visit, or where it cannot be
    told since the contact was erased."""

    id: str
    original_result: str | None
    replayed_result: str | None
    identical: bool


class ReplayDiff(Answer):
    """One field that differs.

    `version` is the entry of the run's log that it is about, `step` the step, `field` the path of
    the field, or `event` where another event follows, one is missing or one too many.
    """

    version: int
    step: str | None
    field: str
    expected: Any
    actual: Any


class ReplayResult(Answer):
    """A run decided again.

    `verdict` is `erased` if nothing differs but something could not be compared since the contact
    was erased; `erased` then lists it. Against another plan or other templates, `assumed` names
    the steps whose messages count as delivered because nobody knows what would have become of them.
    """

    run_id: str
    identical: bool
    verdict: Literal["identical", "different", "erased"]
    against: str | None = None
    steps: tuple[ReplayedStep, ...]
    diffs: tuple[ReplayDiff, ...] = ()
    erased: tuple[ReplayDiff, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference of one run among many; `cause` groups those that are alike."""

    run_id: str
    cause: str
    diff: ReplayDiff | None


@dataclass(slots=True)
class ReplaySummary:
    """What a replay of many runs came to: `identical`, `different`, `erased` and `unreadable` add
    up to `runs`; `causes` counts the runs that diverged by the cause of their first difference."""

    runs: int = 0
    events: int = 0
    identical: int = 0
    different: int = 0
    erased: int = 0
    unreadable: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether nothing diverged and everything could be read."""
        return not self.different and not self.unreadable

    def add(self, other: ReplaySummary) -> None:
        """Take in what a part of the runs came to."""
        self.runs += other.runs
        self.events += other.events
        self.identical += other.identical
        self.different += other.different
        self.erased += other.erased
        self.unreadable += other.unreadable
        self.causes.update(other.causes)


@dataclass(slots=True)
class ReplayedPage:
    """A page of runs that was replayed, and the divergences in it."""

    summary: ReplaySummary = field(default_factory=ReplaySummary)
    divergences: list[Divergence] = field(default_factory=list)

    def in_the_log(self) -> ReplayedPage:
        """The page without runs that left the log for an archive after they were listed."""
        kept = [each for each in self.divergences if each.cause != _ARCHIVED]
        gone = len(self.divergences) - len(kept)
        summary = replace(
            self.summary,
            runs=self.summary.runs - gone,
            unreadable=self.summary.unreadable - gone,
            causes=self.summary.causes - Counter({_ARCHIVED: gone}),
        )
        return ReplayedPage(summary, kept)


OnReplayed = Callable[[ReplaySummary], object]
OnDivergence = Callable[[Divergence], object]
