"""Verification of the indexes: whether what decisions read beside the log is what the log says.

The gate and the scheduler decide by small tables that are written in the transaction of each
append: heads of streams, suppressions, consents, keys, event ids and counters of limits. Whoever
changes one of them changes what is decided, and no chain of checksums shows it. So the log is read
once more, some entries at a time, and each stream that begins among them is folded and compared;
then the tables of suppressions, consents, keys, event ids and counters are gone through for rows of
which the log knows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from dee_es.core.clock import TimeScale
from dee_es.core.events import LogImported
from dee_es.core.evidence.chain import Entry
from dee_es.core.evidence.chunk_check import MOST_PROBLEMS, printable
from dee_es.core.ids import is_run
from dee_es.core.registry import CREATING
from dee_es.engine.auditing.event_ids import EventIds
from dee_es.engine.auditing.extra_keys import ExtraKeys
from dee_es.engine.auditing.index_rows import CONTACTS, IndexRows
from dee_es.engine.auditing.limit_counts import THE_LOG, LimitCounts
from dee_es.engine.auditing.verdicts import IndexDifference, IndexVerdict
from dee_es.engine.auditing.verification import OnVerified
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.log.journal import Journal
from dee_es.errors import DeeError
from dee_es.ports import EventStore, LogHead, StoredRow, Suppression, Tombstone

PAGE: Final = 500
"""Entries of the log, and rows of a table, that are looked at together."""
_LOOKS: Final = 10
"""How often a contact is looked at to which something is appended each time."""
_UNKNOWN_ID: Final = ("not known", "known")


class IndexVerification:
    """Compares the write side's tables with the log; needs no keys, and writes nothing."""

    def __init__(self, store: EventStore, journal: Journal, scale: TimeScale) -> None:
        self._store = store
        self._journal = journal
        self._scale = scale

    @seldom_collected()
    def verify(self, on_progress: OnVerified | None = None) -> IndexVerdict:
        """See `Audit.verify_indexes`."""
        course = _Course(self._store, self._journal, self._scale)
        end = self._store.log_head()
        for after in range(0, end.position, PAGE):
            if course.full or not course.take(after, min(after + PAGE, end.position)):
                break
            if on_progress is not None:
                on_progress(course.position)
        if not course.full:
            course.end(end)
            course.look_for_others()
        differences = tuple(course.differences)[:MOST_PROBLEMS]
        return IndexVerdict(
            valid=not differences,
            entries=course.position,
            runs=course.ordinal,
            contacts=course.contacts,
            differences=differences,
            unread=tuple(course.unread())[:MOST_PROBLEMS],
        )


class _Course:
    """What is known of the log up to a position, and how the tables differ from it."""

    def __init__(self, store: EventStore, journal: Journal, scale: TimeScale) -> None:
        self._store = store
        self._journal = journal
        self._rows = IndexRows(store, journal)
        # Before the log's end is noted: all that is there by then the log has to tell.
        self._event_ids = EventIds(store, PAGE)
        self._extra_keys = ExtraKeys(store, PAGE)
        self._counts = LimitCounts(store, journal, scale, PAGE)
        self._imported: dict[str, int] = {}
        self._tick = 0
        self.position = 0
        self.ordinal = 0
        self.contacts = 0
        # A row may be met with twice: by its contact, and by itself.
        self.differences: dict[IndexDifference, None] = {}

    @property
    def full(self) -> bool:
        """Whether as many differences were found as are named."""
        return len(self.differences) >= MOST_PROBLEMS

    def unread(self) -> list[str]:
        """What could not be compared, and why."""
        return [f"{printable(stream)} {why}" for stream, why in self._rows.unread.items()]

    def take(self, after: int, upto: int) -> bool:
        """Compare all streams that begin with `after < position <= upto`; False if the log ends
        before: a head of it that was set far ahead keeps nobody waiting."""
        rows = [StoredRow(*each) for each in self._store.read_entries(after, upto) if _typed(each)]
        # Asked for afterwards: what was archived in between is in both.
        stones = self._store.tombstones(after, upto)
        if not rows and not stones:
            return bool(self._store.read_log(upto, 1))
        self.position = max([row.position for row in rows] + [stone.position for stone in stones])
        self._note(rows)
        streams = self._begun(rows, stones)
        self._look_at_heads(streams)
        contacts = [stream for stream in streams if stream.startswith(CONTACTS)]
        self.contacts += len(contacts)
        self._look_at_contacts(contacts)
        return True

    def _note(self, rows: Sequence[StoredRow]) -> None:
        """Note time, and what came in from elsewhere."""
        for row in rows:
            try:
                (recorded,) = self._journal.open_public([row])
            except (DeeError, TypeError, AttributeError):
                # Whoever has to act on it says so, and so does the verification of the log.
                self._event_ids.miss_one()
                self._extra_keys.miss_one()
                self._counts.miss_one()
                continue
            self._event_ids.tell(recorded.event)
            self._extra_keys.tell(row.stream_id, recorded.event)
            self._counts.tell(recorded)
            self._tick = max(self._tick, recorded.meta.tick)
            if isinstance(recorded.event, LogImported):
                until = row.position + recorded.event.entries
                self._imported[recorded.event.run_id] = until

    def _begun(self, rows: Sequence[StoredRow], stones: Sequence[Tombstone]) -> dict[str, int]:
        """The streams that begin among these entries; of runs with their number, else 0."""
        first: dict[int, tuple[str, bool]] = {
            each.position: (each.stream_id, is_run(each.stream_id))
            for each in stones
            if each.version == 1
        }
        for row in rows:
            if row.version == 1:
                creates = row.name in CREATING and is_run(row.stream_id)
                first[row.position] = (row.stream_id, creates)
        streams = {}
        for _, (stream, creates) in sorted(first.items()):
            self.ordinal += creates
            streams[stream] = self.ordinal if creates else 0
        return streams

    def _look_at_heads(self, streams: Mapping[str, int]) -> None:
        differing = self._rows.heads(streams, self._imported) if streams else {}
        if differing:
            again = {stream: streams[stream] for stream in differing}
            self._tell(self._rows.heads(again, self._imported))

    def _look_at_contacts(self, streams: Sequence[str], also: Sequence[str] = ()) -> None:
        """Tell what differs at a second look, which nobody's appends came between."""
        found, left = self._rows.contacts(streams, also) if streams else ({}, [])
        left = [*found, *left]
        for _ in range(_LOOKS):
            if not left:
                return
            found, left = self._rows.contacts(left, also)
            self._tell(found)
        self._rows.unread.update(dict.fromkeys(left, "kept changing while it was looked at"))

    def _tell(self, found: Mapping[str, Sequence[IndexDifference]]) -> None:
        for differences in found.values():
            self.differences.update(dict.fromkeys(differences))

    # --- what is no stream's ----------------------------------------------------------------------

    def end(self, head: LogHead) -> None:
        """Compare the head of the log, as it was noted before, with what was read up to it."""
        told = [("position", self.position, head.position), ("ordinal", self.ordinal, head.ordinal)]
        behind = self._store.read_log(self._store.log_head().position, 1)
        now = self._store.log_head()
        # What was appended meanwhile has moved the head as well.
        if behind and behind[0].position > now.position:
            told.append(("position", behind[0].position, now.position))
        if self._tick > now.tick:
            told.append(("tick", self._tick, now.tick))
        differing = [
            IndexDifference(THE_LOG, f"log_head {name}", str(log), printable(table))
            for name, log, table in told
            if log != table
        ]
        self._tell({THE_LOG: differing})

    def look_for_others(self) -> None:
        """Compare the contacts of all rows about suppression and consent: some may have no stream,
        or none that names the subject. Of ids of channel events, and of keys, tell those that no
        entry has or is about; of counters those that the sends do not add up to."""
        for each in islice(self._event_ids.others(), MOST_PROBLEMS):
            self._tell({THE_LOG: [IndexDifference(THE_LOG, f"channel event {each}", *_UNKNOWN_ID)]})
        for extra in islice(self._extra_keys.others(), MOST_PROBLEMS):
            self._tell({extra.stream: [extra]})
        for count in islice(self._counts.others(self._tick), MOST_PROBLEMS):
            self._tell({THE_LOG: [count]})
        if self._counts.unread is not None:
            self._rows.unread["the counters of limits"] = self._counts.unread
        last: Suppression | None = None
        while not self.full and (listed := self._store.suppression_page(last, PAGE)):
            last = listed[-1]
            self._look_at_contacts(
                _streams(row.contact_id for row in listed), [row.subject for row in listed]
            )
        place = ("", "")
        while not self.full and (given := self._store.consent_page(place, PAGE)):
            place = given[-1].contact_id, given[-1].channel
            self._look_at_contacts(_streams(row.contact_id for row in given))


def _typed(entry: Entry) -> bool:
    """Whether the entry's place is one; what is wrong with others `dee audit verify` says."""
    position, stream, version, *_ = entry
    return (type(position), type(stream), type(version)) == (int, str, int)


def _streams(contact_ids: Iterable[str]) -> list[str]:
    return [f"{CONTACTS}{contact_id}" for contact_id in dict.fromkeys(contact_ids)]
