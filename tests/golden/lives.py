"""Lives of runs under the rules of each number, as they were decided when they were first kept:
whatever code comes later has to decide them so again, and has to make the same of them.

A new number of the rules asks for every life under it, which `python -m tests.golden.write` adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.gate import ZoneRules
from dee_es.core.runs.channel_events import SUPPRESSED
from dee_es.core.runs.rules import RULES
from tests.support.runs.given import EPOCH, Story, given, plan_of

HERE: Final = Path(__file__).parent / "lives"
HOUR: Final = 3600
DAY: Final = 24 * HOUR

_MAIL: Final = plan_of(
    steps.send_email("intro", "hello", "Hi {{contact.firstName}}"),
    steps.wait("pause", {"days": 3}),
    steps.branch(
        "answer",
        [{"when": 'events.hasReply("intro")', "goto": "won"}, {"when": "default", "goto": "again"}],
    ),
    steps.end("won", "replied"),
    steps.send_email("again", "hello", "Once more", "us@example.com"),
    steps.end("lost", "silent"),
)
_LEAVING: Final = plan_of(
    *(step.model_dump(by_alias=True, exclude_none=True) for step in _MAIL.steps),
    exits={"contact.unsubscribed or contact.bounced": "gone", "events.hasClick(any)": "clicked"},
)
_CALL: Final = plan_of(
    steps.send_voice("call", "ask", max_duration=60, voicemail="hangup"),
    steps.branch(
        "told",
        [{"when": 'call.outcome("call") == "answered"', "goto": "yes"},
         {"when": "default", "goto": "no"}],
    ),
    steps.end("yes", "answered"),
    steps.end("no", "not reached"),
)  # fmt: skip
_POLICY: Final[Mapping[str, Any]] = {
    "windows": {"channels": {"email": {"start": "09:00", "end": "17:00"}}},
    "limits": {"perDay": {"channel": {"email": 5}, "sender": 4, "domain": 3, "contact": 1}},
    "budget": {"amount": 50, "currency": "EUR", "costPerSend": {"email": 2}},
}
_RAMP: Final[Mapping[str, Any]] = {
    "limits": {"warmUp": {"default": {"startTick": DAY, "perDay": [9]}}, "effect": "pause"}
}
_START_MS: Final = int(EPOCH.timestamp()) * 1000
_ZONE: Final = ZoneRules("Etc/Nowhere", ((_START_MS - 1, 3600),), _START_MS + 500 * DAY * 1000, "1")


def _enrolled(rules: int, plan: Any = _MAIL, start: int | None = None, **of: Any) -> Story:
    return given(plan, **of).enrolled(0, start, pins=e.Pins(rules=rules))


def _silent(rules: int) -> Story:
    return _enrolled(rules).ran_until(5 * DAY)


def _replied(rules: int) -> Story:
    run = _enrolled(rules).ticked(0).delivered().received("email.opened", 5, "intro")
    return run.received("email.replied", 9, "intro").ran_until(5 * DAY)


def _called(rules: int) -> Story:
    run = _enrolled(rules, _CALL).ticked(0).pending()
    return run.received("call.completed", 9, "call", outcome="answered").ran_until(DAY)


def _not_reached(rules: int) -> Story:
    run = _enrolled(rules, _CALL).ticked(0).pending()
    return run.received("call.completed", 9, "call", outcome="busy").ran_until(DAY)


def _refused(rules: int) -> Story:
    run = _enrolled(rules).ticked(0).failed(retryable=True).ticked(60).failed(retryable=True)
    run = run.ticked(180).failed(retryable=True).ticked(181)
    return run.retried(200).ran_until(4 * DAY)


def _excused(rules: int) -> Story:
    run = _enrolled(rules).ticked(0)
    for tick in (60, 180, 420):
        run = run.failed("smtp 535", retryable=True, ours=True).ticked(tick)
    return run.delivered().cancelled(500)


def _unknown(rules: int) -> Story:
    run = _enrolled(rules).ticked(0).unknown().resolved(5, "resend")
    return run.ticked(6).delivered().cancelled(9)


def _abandoned(rules: int) -> Story:
    run = _enrolled(rules).ticked(0).ticked(8, abandoned=True).resolved(9, "delivered")
    return run.ran_until(2 * DAY).cancelled(2 * DAY + 1)


def _bounced_softly(rules: int) -> Story:
    run = _enrolled(rules).ticked(0).delivered().received("email.bounced", 60, "intro", kind="soft")
    run = run.ticked(60 + HOUR).failed("smtp 535", retryable=True, ours=True)
    run = run.ticked(run.state.resends[0].due_tick).delivered()
    for _ in range(2):
        run = run.received("email.bounced", run.now + 60, "intro", kind="soft")
        if run.state.resends:
            run = run.ticked(run.state.resends[0].due_tick).delivered()
    return run.ran_until(5 * DAY)


def _bounced(rules: int) -> Story:
    run = _enrolled(rules, _LEAVING).ticked(0).delivered()
    return run.received("email.bounced", 60, "intro").ran_until(DAY)


def _clicked(rules: int) -> Story:
    run = _enrolled(rules, _LEAVING).ticked(0).delivered()
    return run.received("email.clicked", 60, "intro").ran_until(DAY)


def _unsubscribed(rules: int) -> Story:
    return _enrolled(rules).ticked(0).delivered().received("email.unsubscribed", 60, "intro")


def _listed(rules: int) -> Story:
    run = _enrolled(rules, _LEAVING).ticked(0).delivered()
    return run.received(SUPPRESSED, 60).ran_until(5 * DAY)


def _met_the_list(rules: int) -> Story:
    run = _enrolled(rules, _LEAVING).ticked(0).delivered().ticked(3 * DAY)
    return run.ticked(3 * DAY + 1, suppressed=[("global", "")])


def _held(rules: int) -> Story:
    return (
        given(_MAIL).under(_POLICY, _ZONE).enrolled(0, pins=e.Pins(rules=rules)).ran_until(5 * DAY)
    )


def _stopped(rules: int) -> Story:
    run = given(_MAIL).under(_RAMP).enrolled(0, pins=e.Pins(rules=rules)).ticked(0)
    return run.resumed(DAY).ran_until(5 * DAY)


def _put_off(rules: int) -> Story:
    run = (
        _enrolled(rules, start=HOUR).paused(60, "remaining", "holiday").resumed(HOUR).ran_until(DAY)
    )
    run = run.paused(DAY + 5, "remaining").resumed(2 * DAY).ran_until(3 * DAY)
    return run.paused(3 * DAY + 1).resumed(4 * DAY).ran_until(6 * DAY)


def _unwritable(rules: int) -> Story:
    run = _enrolled(rules, attributes={}).ticked(0)
    return run.cancelled(9)


def _erased(rules: int) -> Story:
    return _enrolled(rules, _LEAVING).ticked(0).delivered().erasing(60)


LIVES: Final[Mapping[str, tuple[Callable[[int], Story], Mapping[str, Any] | None]]] = {
    "abandoned": (_abandoned, None),
    "bounced": (_bounced, None),
    "bounced-softly": (_bounced_softly, None),
    "called": (_called, None),
    "clicked": (_clicked, None),
    "erased": (_erased, None),
    "excused": (_excused, None),
    "held": (_held, _POLICY),
    "listed": (_listed, None),
    "met-the-list": (_met_the_list, None),
    "not-reached": (_not_reached, None),
    "put-off": (_put_off, None),
    "refused": (_refused, None),
    "replied": (_replied, None),
    "silent": (_silent, None),
    "stopped": (_stopped, _RAMP),
    "unknown": (_unknown, None),
    "unsubscribed": (_unsubscribed, None),
    "unwritable": (_unwritable, None),
}
"""How each life came about, and the policy that it was under."""


def life_path(name: str, rules: int) -> Path:
    """Where a life under the rules of a number is."""
    return HERE / f"{name}.rules{rules}.json"


def lived(name: str, rules: int = RULES) -> dict[str, Any]:
    """A life as it is kept: its definitions, its events as they are stored, and what it came to."""
    tell, policy = LIVES[name]
    run = tell(rules)
    materials = run.materials
    kept = {
        "runId": run.run_id,
        "plan": materials.plan.definition(),
        "templates": materials.templates,
        "scripts": materials.scripts,
        "policy": policy,
        "events": [_stored(recorded) for recorded in run.history],
        "row": asdict(run.row),
    }
    # As it is read back: a tuple is a list there.
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def _stored(recorded: e.RecordedEvent) -> list[str]:
    name, public, personal = codec.encode(recorded.event, recorded.meta)
    return [name, public.decode(), personal.decode()]


def write_missing() -> None:
    """Write the lives that are missing."""
    for name in LIVES:
        for rules in range(1, RULES + 1):
            path = life_path(name, rules)
            if not path.exists():
                text = json.dumps(lived(name, rules), indent=1, ensure_ascii=False)
                path.write_text(text + "\n", "utf-8")
