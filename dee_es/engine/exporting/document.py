"""An export for people: what happened, in sentences, what was sent, and what it all rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.document import (
    Block,
    Column,
    Document,
    Facts,
    Heading,
    PageBreak,
    Paragraph,
    Table,
)
from dee_es.engine.exporting.document_parts import (
    checksums,
    messages,
    plans,
    refusals,
    standing,
)
from dee_es.engine.exporting.draft import Draft
from dee_es.engine.exporting.scope import Selection
from dee_es.engine.log.journal import Journal
from dee_es.engine.past.explain import Narrator
from dee_es.errors import DeeError, InvalidInput
from dee_es.ports import StoredRow

MOST_ENTRIES: Final = 2_000
"""Most entries that a PDF tells of."""
MOST_CHARACTERS: Final = 1_000_000
"""Most characters of messages in it."""


class Report:
    """Makes the document of a draft."""

    def __init__(self, selection: Selection, journal: Journal, draft: Draft) -> None:
        self._selection = selection
        self._journal = journal
        self._draft = draft
        self._head = draft.head
        self._narrator = Narrator(draft.head.scale)

    def document(self) -> Document:
        """The document; raises `InvalidInput` if there is too much for one."""
        rows = self._draft.rows(MOST_ENTRIES)
        if rows is None:
            raise InvalidInput(
                "format", f"a PDF tells of at most {MOST_ENTRIES:,} entries; use jsonl"
            )
        context = self._selection.context(self._head.scope)
        history = list(self._opened(rows))
        around = list(self._opened(context))
        self._fitting(history)
        blocks = [
            *self._cover(len(rows)),
            *self._timeline(rows, history),
            *plans([*around, *history], self._head),
            *messages(history, self._head),
            *self._standing(),
            *refusals(history, self._head),
            PageBreak(),
            *self._verification(rows),
        ]
        return Document(self._title, self._subtitle, self._head.made_at, tuple(blocks))

    def _opened(self, rows: Iterable[StoredRow]) -> Iterator[e.RecordedEvent]:
        """What can be read; the others are told by the timeline, and as problems."""
        for row in rows:
            recorded = self._open(row)
            if recorded is not None:
                yield recorded

    def _open(self, row: StoredRow) -> e.RecordedEvent | None:
        try:
            if not self._head.personal:
                return self._journal.open_public([row])[0]
            return self._journal.open_one(row)
        except DeeError:
            return None

    def _fitting(self, history: Iterable[e.RecordedEvent]) -> None:
        size = 0
        for recorded in history:
            message = recorded.event.personal if isinstance(
                recorded.event, e.StepDispatched) else None  # fmt: skip
            if message is not None:
                size += len(message.text or "") + len(message.html or "")
        if size > MOST_CHARACTERS:
            raise InvalidInput(
                "format",
                f"a PDF holds at most {MOST_CHARACTERS:,} characters of messages; use jsonl",
            )

    # --- its parts --------------------------------------------------------------------------------

    @property
    def _title(self) -> str:
        scope = self._head.scope
        if scope.run_id is not None:
            return f"Record of run {scope.run_id}"
        if scope.contact_id is not None:
            return f"Record of contact {scope.contact_id}"
        return "Record of a period"

    @property
    def _subtitle(self) -> str:
        return (
            f"Out of the log {self._head.signed.origin}, up to its entry {self._head.scope.through}"
        )

    def _cover(self, entries: int) -> list[Block]:
        head = self._head
        scope = head.scope
        pairs = [("Entries", f"{entries:,}, of which {self._draft.covered:,} are signed for")]
        if scope.from_tick is not None:
            pairs.append(("From", head.time(scope.from_tick) or ""))
        if scope.before_tick is not None:
            pairs.append(("Before", head.time(scope.before_tick) or ""))
        pairs += [
            ("Made by", head.actor or "(not named)"),
            ("Made at", f"{head.time(head.made_tick)} by the clock of the log (UTC)"),
            ("Made for", head.reason or "(no reason given)"),
            ("Personal data", "shown unless it was erased" if head.personal else "left out"),
        ]
        blocks: list[Block] = [Facts(tuple(pairs))]
        blocks += [Paragraph(f"This does not verify: {problem}.", "warning")
                   for problem in self._draft.problems]  # fmt: skip
        return blocks

    def _timeline(self, rows: list[StoredRow], history: list[e.RecordedEvent]) -> list[Block]:
        told = {(each.stream_id, each.version): each for each in history}
        lines = []
        for row in rows:
            recorded = told.get((row.stream_id, row.version))
            if recorded is None:
                lines.append((str(row.position), "", f"{row} cannot be read."))
            else:
                time = self._head.time(recorded.meta.tick) or ""
                lines.append((str(row.position), time, self._sentence(recorded)))
        columns = (
            Column("Entry", 2, right=True),
            Column("Time (UTC)", 5),
            Column("What happened", 15),
        )
        return [Heading("What happened"), Table(columns, lines)]

    def _sentence(self, recorded: e.RecordedEvent) -> str:
        event = recorded.event
        if isinstance(event, e.Published):
            kind, _, name = recorded.stream_id.partition(":")
            return f"Version {recorded.version} of the {kind} {name} was published."
        if isinstance(event, e.ClockStarted):
            return f"The log began, with a {event.kind} clock."
        told = self._narrator.sentence(recorded).text
        erased = " What was personal in it has been erased." if recorded.erased else ""
        return f"{told}{erased}"

    def _standing(self) -> list[Block]:
        """Consent and suppression of the contact that this is about, whatever its period: how they
        stand comes from entries of any time."""
        about = self._selection.about(self._head.scope)
        if about is None:
            return []
        contact, rows = about
        own = list(self._opened(rows))
        told = [
            (self._head.time(each.meta.tick) or "", self._sentence(each))
            for each in own
            if not isinstance(each.event, e.ChannelEventReceived)
        ]
        return standing(contact, own, contact_state.fold(own).listed, told, self._head)

    def _verification(self, rows: list[StoredRow]) -> list[Block]:
        return checksums(rows, self._draft, self._head)
