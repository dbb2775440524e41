"""What a compliance report counts of consent."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.gate import read_policy
from tests.support.evidence.counted_log import ASKING, Log

FOR_NEWS = read_policy({"consent": {"required": ["email"], "purpose": "news"}})


def test_consent_as_the_gate_read_it() -> None:
    log = Log()
    run = log.run()
    granted = log.sent(run, 5, reads={"consent.email": "granted"})
    bounded = log.sent(run, 5, reads={"consent.email": "granted", "consent.email.expires": 6})
    not_asked = log.sent(run, 5)
    revoked = log.sent(run, 5, reads={"consent.email": "revoked"})
    expired = log.sent(run, 5, reads={"consent.email": "granted", "consent.email.expires": 5})
    assert log.at("consent", "email", "granted") == [granted, bounded]
    assert log.at("consent", "email", "not_asked") == [not_asked]
    without = log.figure("consent", "email", "without")
    assert list(without.entries.positions()) == [revoked, expired]
    assert without.violated


@pytest.mark.parametrize("state", ["revoked", "expired", "missing"])
def test_steps_skipped_for_want_of_consent(state: str) -> None:
    log = Log()
    at = log.add(log.run(), e.StepSkipped("hello", "consent", "x", {"consent.email": state}))
    assert log.at("consent", "email", f"skipped_{state}") == [at]
    assert log.at("consent", "email", "granted") is None


def test_a_grant_that_ran_out_was_expired() -> None:
    log = Log()
    reads = {"consent.email": "granted", "consent.email.expires": 3}
    at = log.add(log.run(), e.StepSkipped("hello", "consent", "x", reads), 5)  # type: ignore[arg-type]
    assert log.at("consent", "email", "skipped_expired") == [at]


@pytest.mark.parametrize(
    "said, state",
    [
        ([], "missing"),
        ([e.ConsentGranted("c1", "email")], "granted"),
        ([e.ConsentGranted("c1", "voice")], "missing"),
        ([e.ConsentGranted("c1", "email", expires_tick=11)], "granted"),
        ([e.ConsentGranted("c1", "email", expires_tick=10)], "expired"),
        ([e.ConsentGranted("c1", "email"), e.ConsentRevoked("c1", "email")], "revoked"),
        ([e.ConsentRevoked("c1", "email"), e.ConsentGranted("c1", "email")], "granted"),
        # Without a purpose asked for, any grant is one.
        ([e.ConsentGranted("c1", "email", "news"), e.ConsentRevoked("c1", "email")], "granted"),
        # Where none holds any more, the last word counts.
        (
            [
                e.ConsentRevoked("c1", "email", "news"),
                e.ConsentGranted("c1", "email", "offers", expires_tick=10),
            ],
            "expired",
        ),
        (
            [
                e.ConsentGranted("c1", "email", "offers", expires_tick=10),
                e.ConsentRevoked("c1", "email", "news"),
            ],
            "revoked",
        ),
    ],
)
def test_consent_by_the_contacts_own_entries(said: list[e.Event], state: str) -> None:
    log = Log()
    run = log.run()
    log.add("contact:other", e.ConsentGranted("other", "voice"))
    for each in said:
        log.add("contact:c1", each)
    send = log.sent(run, 10)
    log.add("contact:c1", e.ConsentGranted("c1", "email"))
    assert log.at("consent", "email", f"log_{state}") == [send]
    assert log.at("consent", "email", "contradicted") is None


def test_the_purpose_of_the_policy_counts() -> None:
    log = Log(policy=FOR_NEWS)
    run = log.run()
    log.add("contact:c1", e.ConsentGranted("c1", "email"))
    first = log.sent(run, 1, reads={"consent.email": "granted"})
    granted = log.add("contact:c1", e.ConsentGranted("c1", "email", "news"))
    second = log.sent(run, 2, reads={"consent.email": "granted"})
    assert log.at("consent", "email", "log_missing") == [first]
    assert log.at("consent", "email", "contradicted") == [first]
    assert log.figure("consent", "email", "contradicted").violated
    assert log.at("consent", "email", "log_granted") == [second]
    evidence = log.figure("consent", "email", "log_granted").evidence
    assert list(evidence.positions()) == [granted]


def test_where_no_consent_is_asked_for_one_for_any_purpose_counts() -> None:
    log = Log(policy=FOR_NEWS)
    run = log.run()
    early = log.sent(run, 1, "call")
    log.add("contact:c1", e.ConsentGranted("c1", "voice", "offers"))
    send = log.sent(run, 2, "call")
    asked = log.sent(run, 3, "call", {"consent.voice": "granted"})
    assert log.at("consent", "voice", "log_granted") == [send]
    assert log.at("consent", "voice", "log_missing") == [early, asked]
    assert log.at("consent", "voice", "contradicted") == [asked]


def test_what_can_be_said_of_consent_depends_on_what_there_was() -> None:
    skipped = Log()
    skipped.add("contact:c1", e.ConsentGranted("c1", "voice"))
    skipped.add(skipped.run(), e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}))
    nothing = dict.fromkeys(("granted", "not_asked", "without"))
    own = dict.fromkeys(("log_granted", "log_revoked", "log_expired", "log_missing"))
    assert skipped.values("consent", "email") == {
        **nothing, "skipped_revoked": 0, "skipped_expired": 0, "skipped_missing": 1,
        **own, "contradicted": None,
    }  # fmt: skip
    sent = Log()
    sent.add("contact:c1", e.ConsentGranted("c1", "email"))
    run = sent.run()
    sent.sent(run, 1)
    assert sent.values("consent", "email") == {
        "granted": None, "not_asked": 1, "without": None,
        "skipped_revoked": None, "skipped_expired": None, "skipped_missing": None,
        "log_granted": 1, "log_revoked": 0, "log_expired": 0, "log_missing": 0,
        "contradicted": None,
    }  # fmt: skip
    sent.sent(run, 2, reads={"consent.email": "granted"})
    assert sent.values("consent", "email") == {
        "granted": 1, "not_asked": 1, "without": 0,
        "skipped_revoked": 0, "skipped_expired": 0, "skipped_missing": 0,
        "log_granted": 2, "log_revoked": 0, "log_expired": 0, "log_missing": 0,
        "contradicted": 0,
    }  # fmt: skip


def test_the_entries_about_the_contact_of_an_imported_run_are_elsewhere() -> None:
    log = Log()
    log.suppressed(tick=1)
    send = log.sent(log.run(), 2, reads={"consent.email": "granted"})
    log.imported.add(send)
    assert log.at("consent", "email", "granted") == [send]
    assert log.at("consent", "email", "log_elsewhere") == [send]
    for key in ("log_granted", "log_revoked", "log_expired", "log_missing", "contradicted"):
        assert not log.at("consent", "email", key)
    assert log.at("suppressions", "sent", "despite") == []
    assert log.at("unsubscribes", "", "sent_after") == []
    log.imported.clear()
    assert "log_elsewhere" not in log.values("consent", "email")


def test_nothing_about_consent_is_not_measured() -> None:
    log = Log(policy=ASKING)
    log.sent(log.run())
    assert log.at("consent", "email", "granted") is None
    assert log.at("consent", "email", "log_missing") is None
    assert log.at("consent", "email", "not_asked") == [2]
    log.add("contact:c9", e.ConsentGranted("c9", "email"))
    assert log.at("consent", "email", "log_missing") == [2]
