"""Suppressions: placed and lifted, by level and source, and what they kept from happening."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dee_es.core import events as e
from dee_es.core.compliance.facts import Fact, gate_rule
from dee_es.core.compliance.figures import Figure, Section, Tally

_BY_EVENT: Final = {
    "global": "an unsubscribe",
    "regulatory": "a complaint",
    "channel": "a hard bounce",
}
_BY_COMMAND: Final = {"suppress": "a person or a list", "erase": "an erasure"}
_EXPLAINS: Final = (
    "Suppressions are counted as entries of the log, by level and by what they came from; an entry "
    "can list several addresses of one contact. They hold for whoever has one of these addresses.",
    "A send despite a suppression is one that was committed after an entry, not lifted since, that "
    "suppresses the very contact for its channel or plan. Suppressions of an address alone are "
    "compared by the gate; the log holds addresses only as digests under a key.",
    "A refused enrolment is in the log once for each contact, plan and suppression, however often "
    "it was tried.",
)


class Suppressions:
    """Counts the section."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._enrolled = self._decided = False
        self.measured = False
        """Whether the log has any entry of the period."""

    def take(self, fact: Fact) -> None:
        """Count an entry of the period."""
        if not fact.counted:
            return
        recorded, event = fact.recorded, fact.recorded.event
        position = recorded.position
        if isinstance(event, e.ContactSuppressed):
            self._tally.add("placed", f"{event.level}:{source_of(recorded)}", position)
        elif isinstance(event, e.ContactUnsuppressed):
            self._tally.add("lifted", event.level, position)
        elif isinstance(event, e.EnrollmentRefused):
            self._tally.add("refused", "refused", position)
        elif isinstance(event, e.Start) and recorded.version == 1:
            self._enrolled = True
        elif isinstance(event, e.StepDispatched):
            self._decided = True
            if fact.contact is not None and fact.run is not None:
                listed = fact.contact.suppressed(position, event.channel, fact.run.plan_id)
                if listed is not None:
                    self._tally.add("sent", "despite", position, listed.position)
        elif (instead := gate_rule(event)) is not None:
            self._decided = True
            if instead == ("skipped", "suppression"):
                self._tally.add("skipped", "skipped", position)

    def section(self) -> Section:
        """The section as counted so far."""
        title = "Suppressions"
        if not self.measured:
            return Section(
                "suppressions", title, _EXPLAINS, (), "the log has no entry of the period"
            )
        return Section("suppressions", title, _EXPLAINS, tuple(self._figures()))

    def _figures(self) -> Iterator[Figure]:
        add = self._tally.figure
        placed = self._tally.keys("placed", "")
        for key in placed:
            level, _, source = key.partition(":")
            yield add("placed", key, f"{level} level, by {source}")
        if not placed:
            yield add("placed", "placed", "any level")
        lifted = self._tally.keys("lifted", "")
        for level in lifted:
            yield add("lifted", level, f"{level} level")
        if not lifted:
            yield add("lifted", "lifted", "any level")
        nobody = None
        if not self._enrolled and not self._tally.has("refused", "refused"):
            nobody = "nobody was to be enrolled in the period"
        yield add("refused", "refused", "enrolments refused", not_measured=nobody)
        nothing = None
        if not self._decided:
            nothing = "no send was decided in the period"
        yield add("skipped", "skipped", "steps skipped", not_measured=nothing)
        label = "sends despite a suppression"
        yield add("sent", "despite", label, not_measured=nothing, must_be_zero=True)


def source_of(recorded: e.RecordedEvent) -> str:
    """What a suppression came from.

    Each channel event that suppresses does so at a level of its own.
    """
    event = recorded.event
    command = recorded.meta.command
    if command == "ingest" and isinstance(event, e.ContactSuppressed):
        return _BY_EVENT.get(event.level, command)
    return _BY_COMMAND.get(command, command)
