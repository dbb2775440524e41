"""What the policy refused a run: which rule, what became of the step, since when and until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Final

from dee_es.cli.times import in_zone, told

if TYPE_CHECKING:
    from dee_es.engine.models import ExecutionRun, TimelineEntry

_EFFECTS: Final = {
    "step.skipped": "skipped",
    "step.deferred": "held",
    "run.paused": "paused",
    "run.failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal. `since` is when it first was made, `until` when the step may be tried again.

    A step that is held several times in a row by one rule is one refusal, made so many `times`.
    `standing` says that the run stands still because of it now.
    """

    effect: str
    step_id: str | None
    rule: str
    detail: str
    since_tick: int
    since: datetime
    until_tick: int | None
    until: datetime | None
    times: int = 1
    standing: bool = False


def find_refusals(timeline: Iterable[TimelineEntry], run: ExecutionRun) -> list[Refused]:
    """The refusals in a run's history, in order."""
    found: list[Refused] = []
    step: str | None = None
    broken = True
    for entry in timeline:
        if entry.action == "step.entered":
            step = entry.step_id
        effect = _EFFECTS.get(entry.action)
        if entry.rule is None or effect is None:
            # A pause before another attempt names no rule: what held the step still does.
            if effect == "held" and found and not broken:
                found[-1] = replace(found[-1], until_tick=entry.until_tick, until=entry.until)
            elif entry.action in ("step.entered", "step.dispatched"):
                broken = True
            continue
        new = _refused(entry, effect, entry.step_id or step)
        last = found[-1] if found else None
        again = effect == "held" and not broken and last is not None
        if again and last is not None and (last.rule, last.step_id) == (new.rule, new.step_id):
            found[-1] = replace(
                last,
                detail=new.detail,
                until_tick=new.until_tick,
                until=new.until,
                times=last.times + 1,
            )
        else:
            found.append(new)
        broken = effect != "held"
    if found and _stands(found[-1], run):
        found[-1] = replace(found[-1], standing=True)
    return found


def _refused(entry: TimelineEntry, effect: str, step_id: str | None) -> Refused:
    rule = str(entry.rule)
    return Refused(
        effect,
        step_id,
        rule,
        (entry.outcome or "").removeprefix(f"{rule}: "),
        entry.tick,
        entry.time,
        entry.until_tick,
        entry.until,
    )


def _stands(last: Refused, run: ExecutionRun) -> bool:
    """Whether the last refusal is what the run stands still for."""
    if last.effect == "held":
        return run.status == "waiting" and run.resume_tick == last.until_tick
    return last.effect == run.status and (run.status_reason or "").startswith(f"{last.rule}: ")


def refusal_line(refused: Refused, now: datetime, zone: tzinfo) -> str:
    """The refusal for people."""
    step = f" step {refused.step_id}" if refused.step_id is not None else ""
    times = f", {refused.times} times" if refused.times > 1 else ""
    until = f", until {told(refused.until, now, zone)} (tick {refused.until_tick:,})" if (
        refused.until is not None and refused.until_tick is not None
    ) else ""  # fmt: skip
    state = " now" if refused.standing else ""
    return (
        f"{refused.effect}{state}{step} by {refused.rule}: {in_zone(refused.detail, zone)}; since "
        f"{told(refused.since, now, zone)} (tick {refused.since_tick:,}){times}{until}"
    )
