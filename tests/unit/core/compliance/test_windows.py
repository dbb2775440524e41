"""What a compliance report counts of sending windows."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.compliance import inside
from dee_es.core.gate import Policy, read_policy
from tests.support.evidence.counted_log import EPOCH, HOUR, SCALE, Log, ms, zone


def test_sends_inside_outside_and_without_a_window() -> None:
    log = Log()
    run = log.run()
    own = log.sent(run, 1, reads={"policy": 1, "zone": "contact"})
    default = log.sent(run, 2, reads={"policy": 1, "zone": "default"})
    free = log.sent(run, 3)
    assert log.at("windows", "email", "inside") == [own, default]
    assert log.at("windows", "email", "zone_contact") == [own]
    assert log.at("windows", "email", "zone_default") == [default]
    assert log.at("windows", "email", "no_window") == [free]
    log.in_window = False
    assert log.at("windows", "email", "outside") == [own, default]
    assert log.figure("windows", "email", "outside").violated
    log.in_window = None
    assert log.at("windows", "email", "unreadable") == [own, default]


def test_what_was_held_back_for_a_window() -> None:
    log = Log()
    run = log.run()
    outside = log.add(run, e.StepDeferred("hello", "windows", "x", 9, {"zone": "contact"}))
    unknown = log.add(run, e.StepFailed("call", "windows: zone", 1, reads={"zone": "unknown"}))
    log.add(run, e.StepDeferred("hello", "budget", "spent", 9, {"zone": "contact"}))
    assert log.at("windows", "email", "held_outside") == [outside]
    assert log.at("windows", "voice", "held_unknown") == [unknown]
    assert log.at("windows", "voice", "inside") is None
    assert log.at("windows", "voice", "outside") is None


def test_what_can_be_said_of_windows_depends_on_what_there_was() -> None:
    none = dict.fromkeys(("inside", "outside", "unreadable", "zone_contact", "zone_default"))
    log = Log()
    run = log.run()
    log.sent(run, 1)
    assert log.values("windows", "email") == {
        **none, "no_window": 1, "held_outside": None, "held_unknown": None,
    }  # fmt: skip
    log.add(run, e.StepFailed("call", "windows: zone", 1, reads={"zone": "unknown"}))
    assert log.values("windows", "voice") == {
        **none, "no_window": None, "held_outside": 0, "held_unknown": 1,
    }  # fmt: skip
    for whose in ("contact", "default"):
        one = Log()
        one.sent(one.run(), 1, reads={"policy": 1, "zone": whose})
        assert one.values("windows", "email") == {
            "inside": 1, "outside": 0, "unreadable": 0,
            "zone_contact": int(whose == "contact"), "zone_default": int(whose == "default"),
            "no_window": 0, "held_outside": 0, "held_unknown": 0,
        }  # fmt: skip


def test_no_window_in_any_policy_is_not_measured() -> None:
    log = Log()
    send = log.sent(log.run())
    assert log.at("windows", "email", "inside") is None
    assert log.at("windows", "email", "held_outside") is None
    assert log.at("windows", "email", "no_window") == [send]


OFFICE = read_policy(
    {"windows": {"channels": {"email": {"weekdays": ["mon"], "start": "09:00", "end": "17:00"}}}}
)


@pytest.mark.parametrize(
    "hour, expected", [(8, False), (9, True), (16, True), (17, False), (24 + 9, False)]
)
def test_the_window_is_held_against_the_recorded_offsets(hour: int, expected: bool) -> None:
    rules = zone("Europe/Vienna")
    tick = (hour - 1) * HOUR  # An hour east of UTC.
    now = ms(EPOCH) + tick * 1000
    noted = {"zone": "Europe/Vienna", "zone.offsets": rules.text(now, now + 1)}
    assert inside(OFFICE, "email", SCALE, tick, dict(noted)) is expected


@pytest.mark.parametrize(
    "policy, noted",
    [
        (None, {"zone": "UTC", "zone.offsets": "0+0 until 99999999999999"}),
        (OFFICE, None),
        (OFFICE, {}),
        (OFFICE, {"zone": "UTC"}),
        (OFFICE, {"zone": "UTC", "zone.offsets": "nonsense"}),
        (OFFICE, {"zone": "UTC", "zone.offsets": "0+0 until 1"}),
    ],
)
def test_what_cannot_be_held_against_a_window(
    policy: Policy | None, noted: dict[str, str] | None
) -> None:
    given = None if noted is None else dict(noted)
    assert inside(policy, "email", SCALE, 0, given) is None  # type: ignore[arg-type]
