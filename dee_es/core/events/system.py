"""The database's own events: its clock, and its evidence: what was signed, given out, taken in,
archived, held."""

from __future__ import annotations

from typing import Literal

from dee_es.core.events.base import Event

ExportKind = Literal["export", "bundle", "run_file", "report", "query"]


class ClockStarted(Event, frozen=True, omit_defaults=True):
    """What a database is made with and keeps: its time (epoch in ms since 1970 UTC, resolution in
    ms, system or manual clock), and whether personal data is encrypted or stored in plain."""

    epoch_ms: int
    resolution_ms: int
    kind: Literal["system", "manual"]
    personal_data: Literal["encrypted", "off"] = "encrypted"


class CheckpointSigned(Event, frozen=True, omit_defaults=True):
    """The first `size` entries of the log were put under a signed root, and that was kept in
    `places` outside the database.

    `edge` is the right edge of the Merkle tree of that size, in hex, from which the next one goes
    on; `note` is the checkpoint as it was signed.
    """

    size: int
    root: str
    edge: tuple[str, ...]
    note: str
    places: tuple[str, ...] = ()


class LogExported(Event, frozen=True, omit_defaults=True):
    """Somebody was given what the log holds: who, when and why stand beside it.

    The scope is a run, a contact, or all entries of `from_tick <= tick < before_tick` (None: no
    bound), none behind position `through`. `digest` is the SHA-256 (hex) of what was written and
    `target` where to; both are empty if it was only shown. `personal_data` says that such data was
    readable in it.
    """

    kind: ExportKind
    format: str
    through: int
    entries: int
    run_id: str | None = None
    contact_id: str | None = None
    from_tick: int | None = None
    before_tick: int | None = None
    digest: str = ""
    target: str = ""
    personal_data: bool = False


class LogImported(Event, frozen=True, omit_defaults=True):
    """A run came into the log from a file: who, when and why stand beside it.

    Its `entries` entries, with those of the definitions that were not here, follow this one as they
    were in the log that they are from. `digest` is the SHA-256 (hex) of the file, `personal_data`
    says that the key to such data was in it.
    """

    run_id: str
    format: str
    entries: int
    digest: str
    personal_data: bool = False


class LogArchived(Event, frozen=True, omit_defaults=True):
    """Runs that ended before `before_tick` left the log for a file that was read back first.

    `name` is the file in `place`, `digest` its SHA-256 (hex). `root` is the Merkle root over the
    checksums of its `entries` entries of `runs` runs, in log order, which the tombstones in the
    database must lead to.
    """

    number: int
    before_tick: int
    runs: int
    entries: int
    first: int
    last: int
    root: str
    digest: str
    place: str
    name: str


class HoldPlaced(Event, frozen=True, omit_defaults=True):
    """Nothing of this run, or of this contact, may be erased or archived until the hold is
    lifted."""

    hold_id: str
    run_id: str | None = None
    contact_id: str | None = None


class HoldLifted(Event, frozen=True, omit_defaults=True):
    """The hold is over."""

    hold_id: str
