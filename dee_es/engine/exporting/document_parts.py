"""The sections of the document: plan, messages, consent, refusals, and what verifies it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dee_es.core import events as e
from dee_es.core.contact_state import Listed
from dee_es.core.document import Block, Column, Facts, Heading, Paragraph, Table
from dee_es.core.evidence import chain
from dee_es.engine.exporting.draft import Draft, Head
from dee_es.engine.insights import consents_at
from dee_es.errors import IntegrityViolation
from dee_es.ports import StoredRow


def plans(history: Iterable[e.RecordedEvent], head: Head) -> list[Block]:
    """The plans that the runs went by, in the versions that they pinned."""
    several = list(history)
    pinned = {
        (f"plan:{each.event.plan_id}", each.event.plan_version)
        for each in several
        if isinstance(each.event, e.Start)
    }
    blocks: list[Block] = []
    for each in several:
        event = each.event
        if (each.stream_id, each.version) in pinned and isinstance(event, e.PlanPublished):
            name = str(event.definition.get("name", ""))
            when = head.time(each.meta.tick)
            blocks += [
                Heading(f"The plan: {name} ({each.stream_id[5:]}, version {each.version})"),
                Paragraph(f"It was published at {when} and cannot have changed since."),
                _steps(event.definition),
            ]
    return blocks


def _steps(definition: Mapping[str, Any]) -> Block:
    columns = (Column("Step", 4), Column("Kind", 3), Column("What it is", 15))
    rows = []
    for step in definition.get("steps", ()):
        rest = {name: value for name, value in step.items() if name not in ("id", "type")}
        rows.append((str(step.get("id")), str(step.get("type")), _told(rest)))
    for number, condition in enumerate(definition.get("exitConditions", ()), start=1):
        rows.append((f"exit {number}", "exit", _told(condition)))
    return Table(columns, rows)


def _told(values: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value is not None
    )


def messages(history: Iterable[e.RecordedEvent], head: Head) -> list[Block]:
    """Every message that was handed to a channel, as it was."""
    sent = [each for each in history if isinstance(each.event, e.StepDispatched)]
    if not sent:
        return [Heading("Messages"), Paragraph("No message was handed to a channel.")]
    blocks: list[Block] = [Heading("Messages")]
    for each in sent:
        event = each.event
        assert isinstance(event, e.StepDispatched), "chosen so"
        blocks.append(
            Heading(f"Entry {each.position}: {event.channel}, step {event.step_id}", level=2)
        )
        pairs = [
            ("Run", each.stream_id),
            ("Handed over at", head.time(each.meta.tick) or ""),
            ("Attempt", str(event.attempt)),
            ("SHA-256 of it", event.digest),
        ]
        if event.reads:
            pairs.append(("The policy read", _told(event.reads)))
        message = event.personal
        if message is None:
            why = "erased with the contact" if each.erased else "left out of this document"
            blocks += [Facts(tuple(pairs)), Paragraph(f"Its text was {why}.", "warning")]
            continue
        pairs.insert(1, ("To", message.to))
        if message.subject is not None:
            pairs.insert(2, ("Subject", message.subject))
        if message.reply_to is not None:
            pairs.append(("Reply to", message.reply_to))
        blocks.append(Facts(tuple(pairs)))
        script = None if message.script is None else json.dumps(
            message.script, ensure_ascii=False, indent=1)  # fmt: skip
        for body in (message.text, message.html, script):
            if body:
                blocks.append(Paragraph(body, "fixed"))
    return blocks


def standing(
    contact: str,
    own: Sequence[e.RecordedEvent],
    listed: Collection[Listed],
    told: Sequence[tuple[str, str]],
    head: Head,
) -> list[Block]:
    """What stood on record about the contact's consent and suppression, and how it came to that."""
    levels = sorted({f"{level} {scope}".strip() for _, level, scope in listed})
    given = consents_at(list(own), head.made_tick)
    pairs = [
        ("Suppressed", ", ".join(levels) or "no, in its own name"),
        ("Consent", "; ".join(f"{name}: {state}" for name, state in given.items()) or "none asked"),
    ]
    blocks: list[Block] = [
        Heading("Consent and suppression"),
        Paragraph(f"Of contact {contact}, as it stood at entry {head.scope.through} of the log."),
        Facts(tuple(pairs)),
    ]
    if told:
        blocks.append(Table((Column("Time (UTC)", 5), Column("What happened", 17)), told))
    return blocks


def refusals(history: Iterable[e.RecordedEvent], head: Head) -> list[Block]:
    """What the policy kept from happening."""
    rows = []
    for each in history:
        event = each.event
        when = head.time(each.meta.tick) or ""
        if isinstance(event, e.EnrollmentRefused):
            rows.append((when, f"plan {event.plan_id}", event.rule, event.suppression))
        elif isinstance(event, e.StepSkipped | e.StepDeferred):
            rows.append((when, f"step {event.step_id}", event.rule, event.detail))
    if not rows:
        return [Heading("Refusals"), Paragraph("Nothing was refused, skipped or put off.")]
    columns = (Column("Time (UTC)", 5), Column("Of", 5), Column("Rule", 3), Column("Why", 9))
    return [Heading("Refusals"), Table(columns, rows)]


def checksums(rows: Sequence[StoredRow], draft: Draft, head: Head) -> list[Block]:
    """What whoever doubts this document can check, and how."""
    signed = head.signed
    scope = head.scope
    asked = scope.run_id or (f"--contact {scope.contact_id}" if scope.contact_id else "")
    if scope.from_tick is not None:
        asked += f" --since {head.time(scope.from_tick)}"
    if scope.before_tick is not None:
        asked += f" --until {head.time(scope.before_tick)}"
    pairs = [
        ("Log", signed.origin),
        ("Key", "none is here" if signed.key is None else str(signed.key)),
    ]
    blocks: list[Block] = [
        Heading("How to verify this"),
        Paragraph(
            "This document is for reading; nothing on paper proves itself. Each entry of the log "
            "has a checksum over all that was stored of it and over the entry before it. All of "
            "them are the leaves of one tree, whose root is signed from time to time. The same "
            "entries in a form that programs read hold what is needed to check all of that "
            "without the database:"
        ),
        Paragraph(
            f"dee audit export {asked.strip()} --format jsonl --output export.jsonl\n"
            "python verify_export.py export.jsonl --key NAME+ID+KEY",
            "fixed",
        ),
        Paragraph(
            "The key has to come from the owner of the log by another way than this document. "
            "The making of this document was recorded in the log as log.exported, with its SHA-256."
        ),
        Facts(tuple(pairs)),
    ]
    columns = (
        Column("Entry", 2, right=True), Column("Stream", 8), Column("Version", 2, right=True),
        Column("Checksum", 12),
    )  # fmt: skip
    return [
        *blocks,
        *_newest_checkpoint(draft, head),
        Heading("Checksums", level=2),
        Table(columns, [_checksum(row) for row in rows]),
    ]


def _newest_checkpoint(draft: Draft, head: Head) -> list[Block]:
    newest = head.signed.newest
    if newest is None:
        return [Paragraph("No checkpoint of the log was signed yet.", "warning")]
    return [
        Paragraph(
            f"The newest checkpoint is of {newest.size:,} entries; it covers "
            f"{draft.covered:,} of the {draft.entries:,} entries told here."
        ),
        Paragraph(newest.note, "fixed"),
    ]


def _checksum(row: StoredRow) -> tuple[str, str, str, str]:
    try:
        own = chain.unseal(row.state, "entry").checksum.hex()
    except IntegrityViolation:
        own = "(malformed)"
    return str(row.position), row.stream_id, str(row.version), own
