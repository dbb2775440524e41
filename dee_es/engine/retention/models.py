"""What holds and archives are told as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold in force on a run or on a contact with all its runs; `placed_at` is UTC."""

    hold_id: str
    run_id: str | None
    contact_id: str | None
    placed_at: datetime
    actor: str | None
    reason: str | None
    command_id: str


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was written: `runs` runs that ended before `before`, their `entries` entries
    of the log from position `first` to `last`, and where the file is. Times are UTC."""

    number: int
    before: datetime
    runs: int
    entries: int
    first: int
    last: int
    root: str
    digest: str
    place: str
    name: str
    archived_at: datetime
    actor: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class ArchiveResult:
    """What an archiving did, or would do: runs and entries that left the log, and runs that legal
    holds kept there, with the ids of these holds."""

    runs: int = 0
    entries: int = 0
    held: int = 0
    holds: set[str] = field(default_factory=set)
    archives: list[Archive] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ArchiveVerdict:
    """Whether an archive still is what was written; None if that could not be told, since its file
    could not be read. `problem` says what is wrong."""

    archive: Archive
    valid: bool | None
    problem: str | None = None


OnArchive = Callable[[ArchiveResult], None]
