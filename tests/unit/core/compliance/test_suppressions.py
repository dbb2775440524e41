"""What a compliance report counts of suppressions."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.compliance import Period
from tests.support.evidence.counted_log import Log


def test_suppressions_by_level_and_source() -> None:
    log = Log()
    hand = log.suppressed("a")
    channel = log.suppressed("a", level="channel", scope="email")
    unsubscribed = log.unsubscribed("b") + 1
    complained = log.unsubscribed("c", kind="email.complained") + 1
    bounced = log.suppressed("d", 0, "channel", "email", "ingest")
    erased = log.suppressed("e", 0, "regulatory", "", "erase")
    lifted = log.lifted("a")
    refused = log.add("contact:a", e.EnrollmentRefused("a", "p", "suppression", "global"))
    expected = {
        ("placed", "global:a person or a list"): [hand],
        ("placed", "channel:a person or a list"): [channel],
        ("placed", "global:an unsubscribe"): [unsubscribed],
        ("placed", "regulatory:a complaint"): [complained],
        ("placed", "channel:a hard bounce"): [bounced],
        ("placed", "regulatory:an erasure"): [erased],
        ("lifted", "global"): [lifted],
        ("refused", "refused"): [refused],
    }
    found = {
        (each.group, each.key): list(each.entries.positions())
        for each in log.section("suppressions").figures
        if each.value is not None
    }
    assert found == expected
    assert log.at("suppressions", "skipped", "skipped") is None


def test_what_can_be_said_of_suppressions_depends_on_what_there_was() -> None:
    def figures(log: Log) -> dict[tuple[str, str], int | None]:
        found = log.section("suppressions").figures
        return {(each.group, each.key): each.value for each in found}

    log = Log(Period(10, 20))
    log.add("run_c1_p", e.RunScheduled("p", 1, "c1", 1, 15, 3), 5)
    log.suppressed(tick=5)
    log.lifted(tick=6)
    # A start that was put off is no enrolment.
    log.add("run_c1_p", e.RunScheduled("p", 1, "c1", 1, 16, 3), 11)
    nothing = {("placed", "placed"): 0, ("lifted", "lifted"): 0}
    assert figures(log) == {
        **nothing, ("refused", "refused"): None, ("skipped", "skipped"): None,
        ("sent", "despite"): None,
    }  # fmt: skip
    log.run("c2", tick=12)
    log.add("run_c1_p", e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}), 13)
    assert figures(log) == {
        **nothing, ("refused", "refused"): 0, ("skipped", "skipped"): 0, ("sent", "despite"): 0,
    }  # fmt: skip
    at = log.add("run_c1_p", e.StepSkipped("hello", "suppression", "x"), 14)
    assert log.at("suppressions", "skipped", "skipped") == [at]
    log.suppressed("c1", 15, "global")
    assert ("placed", "placed") not in figures(log)


def test_the_figures_of_a_group_come_by_name() -> None:
    log = Log()
    for rule in ("windows", "limits", "consent", "budget"):
        log.add(log.run(plan=rule), e.StepSkipped("hello", rule, "x"))
    keys = [key for key in log.values("sends", "email") if key.startswith("skipped:")]
    assert keys == sorted(keys)
    assert len(keys) == 4


def test_a_send_despite_a_suppression_is_seen() -> None:
    log = Log()
    run = log.run()
    before = log.sent(run, 1)
    listed = log.suppressed(tick=2)
    despite = log.sent(run, 3)
    log.lifted(tick=4)
    after = log.sent(run, 5)
    figure = log.figure("suppressions", "sent", "despite")
    assert list(figure.entries.positions()) == [despite]
    assert list(figure.evidence.positions()) == [listed]
    assert figure.violated
    assert before != despite != after
    assert log.at("unsubscribes", "", "sent_after") == [despite]
    assert log.figure("unsubscribes", "", "sent_after").violated


@pytest.mark.parametrize(
    "level, scope, covered",
    [
        ("global", "", True),
        ("regulatory", "", True),
        ("channel", "email", True),
        ("channel", "voice", False),
        ("plan", "p", True),
        ("plan", "q", False),
    ],
)
def test_a_suppression_covers_what_its_level_says(
    level: e.Level, scope: str, covered: bool
) -> None:
    log = Log()
    run = log.run()
    log.suppressed(level=level, scope=scope)
    send = log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == ([send] if covered else [])


def test_a_suppression_of_somebody_else_is_none_of_this_contact() -> None:
    log = Log()
    run = log.run()
    log.suppressed(subjects=("id:other",))
    log.suppressed("other")
    log.sent(run, 3)
    assert log.at("suppressions", "sent", "despite") == []
    log.suppressed(tick=4)
    despite = log.sent(run, 5)
    assert log.at("suppressions", "sent", "despite") == [despite]


def test_a_period_without_any_entry_is_not_measured() -> None:
    log = Log(Period(100, 200))
    log.sent(log.run())
    log.unsubscribed()
    for section in log.count().sections():
        assert section.not_measured, section.key
        assert section.figures == ()
