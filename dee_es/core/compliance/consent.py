"""Consent at the time of each send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dee_es.core import events as e
from dee_es.core.compliance.facts import Fact, gate_rule
from dee_es.core.compliance.figures import Figure, Section, Tally
from dee_es.core.compliance.sends import channel_of

_STATES: Final = ("granted", "revoked", "expired", "missing")
_EXPLAINS: Final = (
    "What the policy gate read is recorded with every send: consent was granted, or the policy "
    "asked for none. A step without the consent that its policy asks for is skipped, and counted "
    "by what the gate read.",
    "Apart from the gate, every send is held against the contact's own entries of consent before "
    "it, read anew for this report: for the purpose that the policy names, else for any. If they "
    "contradict what the gate read, that is counted as well.",
)
_NO_SENDS = "nothing was sent through the channel in the period"


class Consents:
    """Counts the section."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._known = False

    def take(self, fact: Fact) -> None:
        """Count an entry."""
        recorded, event = fact.recorded, fact.recorded.event
        if isinstance(event, e.ConsentGranted | e.ConsentRevoked):
            self._known = True
        if not fact.counted:
            return
        if isinstance(event, e.StepDispatched):
            self._send(fact, event)
        elif gate_rule(event) == ("skipped", "consent"):
            channel = channel_of(fact)
            reads = getattr(event, "reads", {})
            state = reads.get(f"consent.{channel}")
            # A grant that the step was skipped for had run out.
            state = "expired" if state == "granted" else state
            self._tally.add(channel, f"skipped_{state}", recorded.position)

    def _send(self, fact: Fact, event: e.StepDispatched) -> None:
        channel, recorded = event.channel, fact.recorded
        position, tick = recorded.position, recorded.meta.tick
        read = event.reads.get(f"consent.{channel}")
        ends = event.reads.get(f"consent.{channel}.expires")
        self._tally.add(channel, "sends", position)
        if read is None:
            self._tally.add(channel, "not_asked", position)
        elif read == "granted" and not (isinstance(ends, int) and tick >= ends):
            self._tally.add(channel, "granted", position)
        else:
            self._tally.add(channel, "without", position)
        if fact.contact is None:
            self._tally.add(channel, "log_elsewhere", position)
            return
        purpose = None
        if fact.policy is not None and fact.policy.consent is not None and read is not None:
            purpose = fact.policy.consent.purpose or ""
        state, evidence = fact.contact.consent(position, tick, channel, purpose)
        self._tally.add(channel, f"log_{state}", position, evidence)
        if read == "granted" and state != "granted":
            self._tally.add(channel, "contradicted", position, evidence)

    def section(self) -> Section:
        """The section as counted so far."""
        figures = [each for group in self._tally.groups() for each in self._figures(group)]
        empty = None if figures else "nothing was sent or skipped for want of consent in the period"
        return Section(
            "consent", "Consent at the time of each send", _EXPLAINS, tuple(figures), empty
        )

    def _figures(self, group: str) -> Iterator[Figure]:
        sent = None if self._tally.has(group, "sends") else _NO_SENDS
        skipped = [f"skipped_{state}" for state in _STATES[1:]]
        asked: str | None = None
        if not self._tally.has(group, "granted", "without", *skipped):
            asked = "the policy asked for no consent to this channel"
        add = self._tally.figure
        yield add(group, "granted", "sent, consent granted", not_measured=sent or asked)
        yield add(group, "not_asked", "sent, the policy asked for none", not_measured=sent)
        yield add(
            group, "without", "sent without the consent asked for", not_measured=sent or asked,
            must_be_zero=True,
        )  # fmt: skip
        for state in _STATES[1:]:
            yield add(group, f"skipped_{state}", f"skipped, consent {state}", not_measured=asked)
        own = sent or (None if self._known else "the log has no entry about consent")
        for state in _STATES:
            label = f"sent, by the contact's own entries {state}"
            yield add(group, f"log_{state}", label, not_measured=own)
        if self._tally.has(group, "log_elsewhere"):
            yield add(group, "log_elsewhere", "sent in an imported run, the entries are elsewhere")
        yield add(
            group, "contradicted", "sent, the contact's entries contradict the gate",
            not_measured=sent or asked, must_be_zero=True,
        )  # fmt: skip
