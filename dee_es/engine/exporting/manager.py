"""Exports and bundles: chosen, written, recorded in the log, and only then handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.engine.exporting.bundle import Bundle
from dee_es.engine.exporting.delivery import Output, check_output, deliver
from dee_es.engine.exporting.document import Report
from dee_es.engine.exporting.draft import Draft, Head, OnProgress
from dee_es.engine.exporting.formats import csv_lines, json_document, json_lines
from dee_es.engine.exporting.proofs import look_up
from dee_es.engine.exporting.scope import Scope, Selection, make_scope
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.queries import Queries
from dee_es.errors import InvalidInput
from dee_es.ports import Anchor, DocumentWriter, EventStore, PlaceSource, SignerSource

ExportFormat = Literal["json", "jsonl", "csv", "pdf"]
FORMATS: Final = get_args(ExportFormat)
MakeMeta = Callable[[], e.Meta]


class Asked(Struct, frozen=True):
    """What somebody wants to have: a run, a contact or a period, with or without what is
    personal."""

    run_id: str | None
    contact_id: str | None
    since: datetime | None
    until: datetime | None
    personal: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """What was given out, as it is recorded in the log.

    Of its `entries`, `covered` are below the newest signed checkpoint. `digest` is the SHA-256
    (hex) of the file. `problems` say what of the log does not verify. `content` is the file itself
    if no output was named.
    """

    format: str
    entries: int
    covered: int
    through: int
    digest: str
    target: str
    personal_data: bool
    problems: tuple[str, ...]
    content: bytes | None = None


class Exports:
    """Makes exports and bundles."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        queries: Queries,
        system_log: SystemLog,
        scale: TimeScale,
        signers: SignerSource,
        anchors: Iterable[Anchor],
        places: PlaceSource,
        documents: DocumentWriter,
    ) -> None:
        self._store = store
        self._journal = journal
        self._selection = Selection(store, journal, queries)
        self._system_log = system_log
        self._scale = scale
        self._signers = signers
        self._anchors = tuple(anchors)
        self._places = places
        self._documents = documents

    def export(
        self,
        asked: Asked,
        format: str,
        output: Output,
        meta: MakeMeta,
        on_progress: OnProgress | None,
        replace: bool,
    ) -> Exported:
        """One file; see `Audit.export`."""
        if format not in FORMATS:
            raise InvalidInput("format", f"must be one of {', '.join(FORMATS)}")
        check_output(output, self._places, replace=replace)
        draft = self._draft(self._head(asked, meta()))
        if format == "jsonl":
            pieces: Iterable[bytes] = json_lines(draft.all(on_progress))
        elif format == "json":
            pieces = json_document(draft.all(on_progress))
        elif format == "csv":
            pieces = csv_lines(draft.table(on_progress))
        else:
            pieces = [self._pdf(draft)]
        return self._deliver("export", format, draft, pieces, output, meta, replace)

    def bundle(
        self,
        asked: Asked,
        output: Output,
        meta: MakeMeta,
        on_progress: OnProgress | None,
        replace: bool,
    ) -> Exported:
        """Everything in one zip file; see `Audit.bundle`."""
        check_output(output, self._places, replace=replace)
        head = self._head(asked, meta())
        draft = self._draft(head)
        bundle = Bundle(head, self._anchors)
        table = self._draft(head)
        with bundle:
            bundle.add("export.jsonl", json_lines(draft.all(on_progress)))
            bundle.add("export.csv", csv_lines(table.table(None)))
            try:
                pdf = self._pdf(self._draft(head))
            except InvalidInput:
                # There is too much for one; the others hold all of it.
                pdf = b""
            if pdf:
                bundle.add("export.pdf", [pdf])
            pieces = bundle.finished(draft.entries, draft.covered, draft.problems)
            return self._deliver("bundle", "zip", draft, pieces, output, meta, replace)

    def record(self, event: e.LogExported, meta: MakeMeta) -> None:
        """Record what was given out in another form."""
        self._system_log.record(event, meta)

    @property
    def through(self) -> int:
        """The last position of the log."""
        return self._store.log_head().position

    def scope_of(self, asked: Asked) -> Scope:
        """What was asked for, as the log has it now. Raises `RunNotFound`, `InvalidInput`."""
        scope = make_scope(
            self._scale, self.through, asked.run_id, asked.contact_id, asked.since, asked.until
        )
        self._selection.check(scope)
        return scope

    def _head(self, asked: Asked, meta: e.Meta) -> Head:
        scope = self.scope_of(asked)
        return Head(
            scope=scope,
            made_tick=meta.tick,
            made_at=self._scale.time(meta.tick),
            actor=meta.actor,
            reason=meta.reason,
            personal=asked.personal,
            scale=self._scale,
            signed=look_up(self._store, self._journal, self._signers, scope.through),
        )

    def _draft(self, head: Head) -> Draft:
        return Draft(self._store, self._journal, self._selection, head)

    def _pdf(self, draft: Draft) -> bytes:
        document = Report(self._selection, self._journal, draft).document()
        return self._documents.write(document, "pdf")

    def _deliver(
        self,
        kind: e.ExportKind,
        format: str,
        draft: Draft,
        pieces: Iterable[bytes],
        output: Output,
        meta: MakeMeta,
        replace: bool,
    ) -> Exported:
        scope = draft.head.scope
        recorded: list[e.LogExported] = []

        def record(digest: str, target: str) -> None:
            event = _exported(kind, format, scope, draft, digest, target)
            self._system_log.record(event, meta)
            recorded.append(event)

        content = deliver(pieces, output, self._places, record, replace=replace)
        (event,) = recorded
        return Exported(
            format=format,
            entries=event.entries,
            covered=draft.covered,
            through=scope.through,
            digest=event.digest,
            target=event.target,
            personal_data=event.personal_data,
            problems=draft.problems,
            content=content,
        )


def _exported(
    kind: e.ExportKind, format: str, scope: Scope, draft: Draft, digest: str, target: str
) -> e.LogExported:
    return e.LogExported(
        kind=kind,
        format=format,
        through=scope.through,
        entries=draft.entries,
        run_id=scope.run_id,
        contact_id=scope.contact_id,
        from_tick=scope.from_tick,
        before_tick=scope.before_tick,
        digest=digest,
        target=target,
        personal_data=draft.records.shown > 0,
    )
