"""A compliance report counted from the log in the plainest way there is, stream by stream.

What the report finds in one pass with look-ups is found here with the whole log in memory, each
figure by a search of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from dee_es.core import events as e
from dee_es.core.compliance import Figure
from dee_es.core.gate import evaluate, read_policy, snapshot_from
from dee_es.core.gate.snapshot import Allow, Snapshot
from dee_es.engine.compliance.report import ComplianceReport
from dee_es.engine.facade import EngineApi

Found = dict[tuple[str, str, str], set[int]]
_REQUESTS = ("email.unsubscribed", "email.complained", "suppress", "erase", "sent_after")
RULES = ("suppression", "consent", "windows", "limits", "budget")


class ByHand:
    """The figures of a period, as sets of positions by section, group and key."""

    def __init__(self, engine: EngineApi, first: int, before: int) -> None:
        self.engine = engine
        store, journal = engine._parts.store, engine._journal
        rows = store.read_log(0, 1_000_000)
        self.log = [journal.open_one(row) for row in rows]
        self.within = [each for each in self.log if first <= each.meta.tick < before]
        self.streams: dict[str, list[e.RecordedEvent]] = defaultdict(list)
        for each in self.log:
            self.streams[each.stream_id].append(each)
        self.found: Found = defaultdict(set)
        for each in self.within:
            self._sends(each)
            self._instead(each)
            self._suppressions(each)
            self._requests(each)

    def add(self, section: str, group: str, key: str, position: int) -> None:
        self.found[section, group, key].add(position)

    # --- whose --------------------------------------------------------------------------------

    def start(self, run: str) -> e.Start:
        event = self.streams[run][0].event
        assert isinstance(event, e.Start)
        return event

    def channel(self, run: str, step: str) -> str:
        start = self.start(run)
        plan = self.engine.get_plan(start.plan_id, start.plan_version)
        return str(next(each for each in plan.steps if each.id == step).channel)

    def outcome(self, send: e.RecordedEvent) -> tuple[str, e.RecordedEvent | None]:
        sent = send.event
        assert isinstance(sent, e.StepDispatched)
        for each in self.streams[send.stream_id][send.version :]:
            event = each.event
            if getattr(event, "late", False):
                continue
            if isinstance(event, e.ChannelEventReceived):
                over = event.ended and event.type in ("call.completed", "call.failed")
                if over and event.step_id == sent.step_id and event.kind is not None:
                    reached = event.kind in ("answered", "voicemail")
                    return ("delivered" if reached else "not_reached"), each
                continue
            if (getattr(event, "step_id", None), getattr(event, "resend", None)) != (
                sent.step_id,
                sent.resend,
            ):
                continue
            if isinstance(event, e.OutcomeUnknown):
                return "unknown", each
            if isinstance(event, e.StepFailed | e.StepRetried):
                return "failed", each
            if isinstance(event, e.StepCompleted):
                reached = event.result in ("delivered", "pending", "answered", "voicemail")
                return ("delivered" if reached else "not_reached"), each
        return "open", None

    # --- sends --------------------------------------------------------------------------------

    def _sends(self, each: e.RecordedEvent) -> None:
        sent = each.event
        if not isinstance(sent, e.StepDispatched):
            return
        channel, position = sent.channel, each.position
        contact = self.start(each.stream_id).contact_id
        self.add("sends", channel, "attempted", position)
        self.add("sends", channel, self.outcome(each)[0], position)
        policy = None
        if version := sent.reads.get("policy"):
            policy = read_policy(
                next(
                    p.event.definition
                    for p in self.streams["policy:default"]
                    if p.version == version and isinstance(p.event, e.PolicyPublished)
                )
            )
        asked = policy is not None and policy.consent is not None
        asked = asked and channel in policy.consent.required  # type: ignore[union-attr]
        self.add("consent", channel, "granted" if asked else "not_asked", position)
        purpose = (policy.consent.purpose or "") if asked else None  # type: ignore[union-attr]
        self.add("consent", channel, f"log_{self.consent(each, channel, purpose)}", position)
        if policy is None or policy.window(channel) is None:
            self.add("windows", channel, "no_window", position)
        else:
            self.add("windows", channel, f"zone_{sent.reads['zone']}", position)
            assert sent.personal is not None or each.erased
            if sent.personal is None:
                self.add("windows", channel, "unreadable", position)
            else:
                send = Snapshot(
                    each.meta.tick,
                    self.engine.clock.scale,
                    channel,
                    self.start(each.stream_id).plan_id,
                    contact_id=contact,
                )
                again = snapshot_from(policy, send, sent.reads, sent.personal.gate)
                kind = "inside" if isinstance(evaluate(policy, again), Allow) else "outside"
                self.add("windows", channel, kind, position)
        listed = self.listed(contact, position, channel, self.start(each.stream_id).plan_id)
        if listed:
            self.add("suppressions", "sent", "despite", position)
        if any(
            one.meta.command in ("suppress", "erase")
            or (one.meta.command == "ingest" and getattr(one.event, "level", "") != "channel")
            for one in listed
        ):
            self.add("unsubscribes", "", "sent_after", position)

    def consent(self, send: e.RecordedEvent, channel: str, purpose: str | None) -> str:
        contact = self.start(send.stream_id).contact_id
        said: dict[str, str] = {}
        for each in self.streams[f"contact:{contact}"]:
            event = each.event
            if each.position > send.position:
                break
            if isinstance(event, e.ConsentGranted) and event.channel == channel:
                over = event.expires_tick is not None and send.meta.tick >= event.expires_tick
                said.pop(event.purpose, None)
                said[event.purpose] = "expired" if over else "granted"
            if isinstance(event, e.ConsentRevoked) and event.channel == channel:
                said.pop(event.purpose, None)
                said[event.purpose] = "revoked"
        if purpose is not None:
            return said.get(purpose, "missing")
        if "granted" in said.values():
            return "granted"
        return list(said.values())[-1] if said else "missing"

    def listed(self, contact: str, position: int, channel: str, plan: str) -> list[e.RecordedEvent]:
        holding: dict[tuple[str, str], e.RecordedEvent] = {}
        for each in self.streams[f"contact:{contact}"]:
            event = each.event
            if each.position > position:
                break
            if isinstance(event, e.ContactSuppressed) and f"id:{contact}" in event.subjects:
                holding.setdefault((event.level, event.scope), each)
            if isinstance(event, e.ContactUnsuppressed) and f"id:{contact}" in event.subjects:
                del holding[event.level, event.scope]
        return [
            each
            for (level, scope), each in holding.items()
            if level in ("global", "regulatory") or scope in (channel, plan)
        ]

    # --- what the gate did instead ------------------------------------------------------------

    def _instead(self, each: e.RecordedEvent) -> None:
        event = each.event
        step = getattr(event, "step_id", None)
        if isinstance(event, e.StepSkipped):
            what, rule = "skipped", event.rule
        elif isinstance(event, e.StepDeferred):
            what, rule = "deferred", event.rule
        elif isinstance(event, e.StepFailed):
            what, rule = "failed", event.error.split(": ")[0]
        elif isinstance(event, e.RunPaused):
            what, rule = "paused", str(event.cause).split(": ")[0]
            entered = [
                past.event.step_id
                for past in self.streams[each.stream_id][: each.version]
                if isinstance(past.event, e.StepEntered)
            ]
            step = entered[-1] if entered else None
        else:
            return
        reads = event.reads
        if rule not in RULES or not reads:
            return
        channel = self.channel(each.stream_id, str(step))
        self.add("sends", channel, f"{what}:{rule}", each.position)
        if rule == "consent":
            state = str(reads[f"consent.{channel}"]).replace("granted", "expired")
            self.add("consent", channel, f"skipped_{state}", each.position)
        if rule == "windows":
            kind = "held_unknown" if reads.get("zone") == "unknown" else "held_outside"
            self.add("windows", channel, kind, each.position)
        if (what, rule) == ("skipped", "suppression"):
            self.add("suppressions", "skipped", "skipped", each.position)

    # --- suppressions and requests ------------------------------------------------------------

    def _suppressions(self, each: e.RecordedEvent) -> None:
        event = each.event
        if isinstance(event, e.ContactSuppressed):
            source = {
                ("ingest", "global"): "an unsubscribe",
                ("ingest", "regulatory"): "a complaint",
                ("ingest", "channel"): "a hard bounce",
                ("suppress", event.level): "a person or a list",
                ("erase", event.level): "an erasure",
            }[each.meta.command, event.level]
            self.add("suppressions", "placed", f"{event.level}:{source}", each.position)
        if isinstance(event, e.ContactUnsuppressed):
            self.add("suppressions", "lifted", event.level, each.position)
        if isinstance(event, e.EnrollmentRefused):
            self.add("suppressions", "refused", "refused", each.position)

    def _requests(self, each: e.RecordedEvent) -> None:
        event, kind = each.event, each.meta.command
        if isinstance(event, e.ChannelEventReceived):
            if event.type not in ("email.unsubscribed", "email.complained"):
                return
            if event.run_id is not None and each.stream_id == event.run_id:
                return
            kind = event.type
        elif isinstance(event, e.ContactErased):
            kind = "erase"
        elif not isinstance(event, e.ContactSuppressed) or kind != "suppress":
            return
        self.add("unsubscribes", "requests", kind, each.position)


def assert_report_is_the_count_by_hand(
    engine: EngineApi, since: datetime, until: datetime
) -> ComplianceReport:
    """Every figure has the entries that a count by hand finds, and no entry is in none."""
    report = engine.compliance.report(since, until)
    hand = ByHand(engine, report.from_tick, report.before_tick)
    # The report has been put on record since.
    assert report.through == hand.log[-1].position - 1
    within = [each for each in hand.within if each.position <= report.through]
    assert report.entries == len(within)
    assert report.made_at == engine.clock.scale.time(
        max(each.meta.tick for each in hand.log if each.position <= report.through)
    )
    compared: Found = {}
    for section in report.sections:
        for figure in section.figures:
            key = (section.key, figure.group, figure.key)
            if section.key == "unsubscribes" and figure.key not in _REQUESTS:
                continue
            compared[key] = set(figure.entries.positions())
            if figure.value is None:
                assert figure.not_measured
            else:
                assert figure.value == len(compared[key])
    assert {k: v for k, v in compared.items() if v} == dict(hand.found)
    _adds_up(report.figure, report)
    assert report.verification is not None
    assert report.verification.intact
    return report


def _adds_up(figure: Callable[[str, str, str], Figure], report: ComplianceReport) -> None:
    """What a send came to, and what consent and windows say of it, each adds up to the sends."""
    for each in report.section("sends").figures:
        if each.key != "attempted" or not each.value:
            continue
        sends = set(each.entries.positions())
        outcomes = ["delivered", "failed", "unknown", "open"]
        outcomes += ["not_reached"] if each.group == "voice" else []
        for section, keys in (
            ("sends", outcomes),
            ("consent", ["granted", "not_asked", "without"]),
            ("windows", ["inside", "outside", "unreadable", "no_window"]),
        ):
            parts = [figure(section, each.group, key).entries for key in keys]
            assert sum(part.count for part in parts) == len(sends)
            assert {at for part in parts for at in part.positions()} == sends
