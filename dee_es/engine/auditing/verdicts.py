"""What a verification comes to: of one chain, of the whole log, of the tables beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """Whether a run's chain verifies, and if not, at which entry it breaks and how.

    `anchored_through` is the last entry whose place in the log a signed checkpoint covers, 0 if
    there is none. That it still is what was signed, only the verification of the whole log says.
    """

    stream_id: str
    valid: bool
    entries: int
    first_tick: int | None
    last_tick: int | None
    first_bad_entry: int | None = None
    problem: str | None = None
    head: str | None = None
    anchored_through: int = 0


@dataclass(frozen=True, slots=True)
class LogVerdict:
    """Two verdicts about the whole log.

    Integrity: `valid` says that every chain verifies, positions have no gap, and everything is what
    was signed; `problems` names the first bad entries. Completeness: `anchored_through` is the last
    position that one of the `checkpoints` covers (0 if there is none); behind it are
    `unanchored_events`, the oldest `unanchored_seconds` old by the log's clock, whose loss nobody
    could prove. `unchecked` says what could not be looked at.
    """

    valid: bool
    entries: int
    streams: int
    problems: tuple[str, ...]
    checkpoints: int = 0
    anchored_through: int = 0
    unanchored_events: int = 0
    unanchored_seconds: float = 0.0
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexDifference:
    """What of which stream (or of the log) the tables beside the log have otherwise than the log.

    Subjects of suppressions and of counters are keyed digests of addresses and domains, or contact
    ids, as everywhere.
    """

    stream: str
    what: str
    log: str
    table: str

    def __str__(self) -> str:
        """As a line."""
        return f"{self.stream}: {self.what}: {self.log} by the log, {self.table} in the table"


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """Whether what decisions read beside the log is what the log says.

    `entries`, `runs` and `contacts` were looked at; `differences` are a hundred at most. `unread`
    names streams that could not be compared, and why: they make nothing invalid here.
    """

    valid: bool
    entries: int
    runs: int
    contacts: int
    differences: tuple[IndexDifference, ...]
    unread: tuple[str, ...] = ()
