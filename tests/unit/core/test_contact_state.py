"""Suppressions and refusals of one contact, folded from its events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from dee_es.core import contact_state as cs
from dee_es.core import events as e
from dee_es.core.contact_state import ContactState
from dee_es.errors import InvalidInput

CONTACT = "contact"
SUBJECTS = ("id:contact", "email:abc", "phone:def")


def history(*happened: e.Event) -> list[e.RecordedEvent]:
    """These events, each by a command of its own."""
    return [
        e.RecordedEvent(
            "contact:contact", n, type(event).__name__, n, e.Meta(n, f"cmd_{n}", "x", 0), event
        )
        for n, event in enumerate(happened, 1)
    ]


def after(*happened: e.Event) -> ContactState:
    """The state after these events."""
    return cs.fold(history(*happened))


def suppressed(
    level: e.Level = "global", scope: str = "", subjects: Sequence[str] = SUBJECTS
) -> e.ContactSuppressed:
    return e.ContactSuppressed(CONTACT, level, scope, tuple(subjects))


def lifted(
    level: e.Level = "global", scope: str = "", subjects: Sequence[str] = SUBJECTS
) -> e.ContactUnsuppressed:
    return e.ContactUnsuppressed(CONTACT, level, scope, tuple(subjects))


def test_a_contact_without_a_history_is_free() -> None:
    state = after()
    assert (state.version, state.listed, state.refused) == (0, frozenset(), frozenset())


def test_a_suppression_lists_every_subject() -> None:
    events = cs.suppress(after(), CONTACT, SUBJECTS, "channel", "email")
    assert events == [suppressed("channel", "email", sorted(SUBJECTS))]
    state = after(*events)
    assert state.listed == {(subject, "channel", "email") for subject in SUBJECTS}
    assert state.version == 1


def test_the_order_of_the_subjects_makes_no_difference() -> None:
    one = cs.suppress(after(), CONTACT, SUBJECTS, "global", "")
    assert one == cs.suppress(after(), CONTACT, reversed(SUBJECTS), "global", "")


def test_what_is_listed_is_not_listed_again() -> None:
    assert cs.suppress(after(suppressed()), CONTACT, SUBJECTS, "global", "") == []


def test_only_what_is_new_is_listed() -> None:
    state = after(suppressed(subjects=["id:contact"]))
    events = cs.suppress(state, CONTACT, SUBJECTS, "global", "")
    assert events == [suppressed(subjects=["email:abc", "phone:def"])]


@pytest.mark.parametrize("level, scope", [("regulatory", ""), ("plan", "p"), ("channel", "email")])
def test_levels_and_scopes_are_lists_of_their_own(level: e.Level, scope: str) -> None:
    state = after(suppressed("channel", "voice"))
    events = cs.suppress(state, CONTACT, SUBJECTS, level, scope)
    assert events == [suppressed(level, scope, sorted(SUBJECTS))]
    assert cs.unsuppress(state, CONTACT, level, scope) == []


def test_lifting_frees_every_subject_that_was_listed_at_any_time() -> None:
    state = after(suppressed(subjects=["id:contact"]), suppressed(subjects=["email:abc"]))
    events = cs.unsuppress(state, CONTACT, "global", "")
    assert events == [lifted(subjects=["email:abc", "id:contact"])]
    assert after(suppressed(), lifted()).listed == frozenset()


def test_lifting_one_level_leaves_the_others() -> None:
    state = after(suppressed("regulatory"), suppressed(), lifted())
    assert {level for _, level, _ in state.listed} == {"regulatory"}


def test_nobody_lifts_what_keeps_an_erased_contact_from_being_written_to() -> None:
    erasure = cs.erase(after(suppressed()), CONTACT, SUBJECTS, "key_1")
    state = after(suppressed(), *erasure)
    with pytest.raises(InvalidInput, match="was erased"):
        cs.unsuppress(state, CONTACT, "regulatory", "")
    assert cs.unsuppress(state, CONTACT, "global", "") == [lifted(subjects=sorted(SUBJECTS))]
    complained = after(suppressed("regulatory"))
    assert cs.unsuppress(complained, CONTACT, "regulatory", "") != []


def test_what_is_not_listed_cannot_be_lifted() -> None:
    assert cs.unsuppress(after(), CONTACT, "global", "") == []
    assert cs.unsuppress(after(suppressed(), lifted()), CONTACT, "global", "") == []


def test_a_lifted_suppression_can_be_set_again() -> None:
    state = after(suppressed(), lifted())
    assert cs.suppress(state, CONTACT, SUBJECTS, "global", "") == [
        suppressed(subjects=sorted(SUBJECTS))
    ]


def test_a_refusal_is_recorded_once_for_each_plan_and_suppression() -> None:
    events = cs.refuse(after(), CONTACT, "plan", "global")
    assert events == [e.EnrollmentRefused(CONTACT, "plan", "suppression", "global")]
    state = after(*events)
    assert cs.refuse(state, CONTACT, "plan", "global") == []
    assert len(cs.refuse(state, CONTACT, "other", "global")) == 1
    assert len(cs.refuse(state, CONTACT, "plan", "regulatory")) == 1


def test_channel_events_change_neither() -> None:
    received = e.ChannelEventReceived("email.opened", CONTACT, "event_1", 0)
    assert after(suppressed(), received).listed == after(suppressed()).listed
    assert after(suppressed(), received).version == 2


def test_a_command_is_known_by_its_id_its_kind_and_what_it_asked_for() -> None:
    """As for a suppression that found two of its subjects listed, and one that was lifted since."""
    happened = history(suppressed(subjects=SUBJECTS[:2]), suppressed(subjects=SUBJECTS), lifted())
    meta = e.Meta(9, "cmd_2", "x", 0)
    assert cs.has_done(happened, meta, suppressed())
    assert cs.has_done(happened, meta, suppressed(subjects=SUBJECTS[1:]))
    assert not cs.has_done(happened, meta, suppressed(subjects=["email:another"]))
    assert not cs.has_done(happened, meta, suppressed("regulatory"))
    assert not cs.has_done(happened, meta, suppressed("global", "email"))
    assert not cs.has_done(happened, meta, lifted())
    assert not cs.has_done(happened, replace(meta, command="y"), suppressed())
    assert cs.has_done(happened, replace(meta, command_id="cmd_3"), lifted(subjects=()))
    assert not cs.has_done(happened, replace(meta, command_id="cmd_3"), lifted("regulatory"))


def granted(channel: str, purpose: str = "") -> e.ConsentGranted:
    return e.ConsentGranted(CONTACT, channel, purpose)


@pytest.mark.parametrize("expires, holds", [(None, True), (6, True), (5, False), (4, False)])
def test_only_a_consent_that_holds_now_is_taken_in(expires: int | None, holds: bool) -> None:
    given = e.ConsentGranted(CONTACT, "email", "news", expires)
    if holds:
        assert cs.grant(given, 5) == [given]
    else:
        with pytest.raises(InvalidInput, match="has passed"):
            cs.grant(given, 5)


def test_what_is_taken_back_without_a_purpose_is_taken_back_for_every_purpose() -> None:
    state = after(
        granted("email", "news"),
        granted("email"),
        granted("voice", "news"),
        granted("email", "offers"),
        e.ConsentRevoked(CONTACT, "email", "offers"),
    )
    events = cs.revoke(state, CONTACT, "email", None)
    assert events == [
        e.ConsentRevoked(CONTACT, "email"),
        e.ConsentRevoked(CONTACT, "email", "news"),
    ]
    assert after(granted("email", "news"), granted("voice", "news"), *events).agreed == {
        ("voice", "news")
    }


def test_what_is_taken_back_for_a_purpose_leaves_the_others() -> None:
    state = after(granted("email", "news"), granted("email"))
    assert cs.revoke(state, CONTACT, "email", "news") == [
        e.ConsentRevoked(CONTACT, "email", "news")
    ]
    assert cs.revoke(after(), CONTACT, "email", None) == [e.ConsentRevoked(CONTACT, "email")]
