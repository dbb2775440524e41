"""Contacts: the suppression list, and what happened to messages and calls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from dee_es.core.clock import require_utc
from dee_es.core.contact import check_email, check_phone
from dee_es.core.events import ConsentGranted, ConsentRevoked, Level
from dee_es.core.values import check_id, check_map, check_text
from dee_es.engine.api.base import ApiBase, checked_run_id
from dee_es.engine.lifecycle import EVENT_TYPES
from dee_es.errors import InvalidInput


class ContactsApi(ApiBase):
    """Calls about a contact rather than one of its runs."""

    def suppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: Literal["email", "voice"] | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Put a contact, by id or address or both, on the suppression list.

        Level `global` and `regulatory` close everything, `channel` one channel, `plan` one plan.

        Once this has returned, only messages whose intents were committed before may still leave.
        False if everything named was on the list already.
        """
        scope = _scope(level, channel, plan_id)
        who = self._identified(contact_id, email, phone)
        subjects = self._contacts.subjects(who, email, phone)
        meta = self._meta("suppress", command_id, actor, reason)
        return self._contacts.suppress(who, subjects, level, scope, meta)

    def unsuppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: Literal["email", "voice"] | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Lift a suppression that was made with the same id or address; False if there is none."""
        scope = _scope(level, channel, plan_id)
        who = self._identified(contact_id, email, phone)
        meta = self._meta("unsuppress", command_id, actor, reason)
        return self._contacts.unsuppress(who, level, scope, meta)

    def grant_consent(
        self,
        contact_id: str,
        channel: Literal["email", "voice"],
        *,
        purpose: str | None = None,
        expires_at: datetime | None = None,
        source: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact agreed to a channel, until `expires_at` if that is given.

        `source` says where the consent comes from, in plain text without personal data.
        """
        expires = None
        if expires_at is not None:
            expires = self._parts.scale.tick_from(require_utc("expires_at", expires_at))
        if source is not None:
            check_text("source", source, blank=False)
        who, agreed = check_id("contact_id", contact_id), _channel(channel)
        event = ConsentGranted(who, agreed, _purpose(purpose), expires, source)
        return self._contacts.consent(event, self._meta("consent", command_id, actor, reason))

    def revoke_consent(
        self,
        contact_id: str,
        channel: Literal["email", "voice"],
        *,
        purpose: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact took its consent back."""
        who, agreed = check_id("contact_id", contact_id), _channel(channel)
        event = ConsentRevoked(who, agreed, _purpose(purpose))
        return self._contacts.consent(event, self._meta("consent", command_id, actor, reason))

    def contact_id_for(self, *, email: str | None = None, phone: str | None = None) -> str:
        """The opaque id of a contact known by an address only: a keyed digest, equal for equal
        addresses."""
        return self._identified(None, email, phone)

    def _identified(self, contact_id: str | None, email: str | None, phone: str | None) -> str:
        if email is not None:
            check_email("email", email)
        if phone is not None:
            check_phone("phone", phone)
        if contact_id is not None:
            return check_id("contact_id", contact_id)
        if email is None and phone is None:
            raise InvalidInput("contact_id", "give an id, an email or a phone")
        return self._contacts.id_for_address(email, phone)

    def ingest_event(
        self,
        type: str,
        contact_id: str,
        run_id: str | None = None,
        step_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        occurred_at: datetime | None = None,
        event_id: str | None = None,
    ) -> bool:
        """Record what happened to a message or call, with the contact and with its runs.

        Without `run_id` it reaches every run of the contact that has not ended. False if the
        `event_id` was accepted before. Raises `InvalidInput`, `RunNotFound`.
        """
        if type not in EVENT_TYPES:
            raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
        check_id("contact_id", contact_id)
        held = check_map("data", data or {})
        if step_id is not None:
            check_id("step_id", step_id)
        if run_id is not None:
            state = self._runs.load(checked_run_id(run_id)).state
            if state.contact_id != contact_id:
                raise InvalidInput("run_id", f"run {run_id} is not one of contact {contact_id!r}")
        meta = self._meta("ingest", None, None, None)
        occurred = self.clock.now()
        if occurred_at is not None:
            # What is told of a time before this database's own counts as from its beginning.
            moment = require_utc("occurred_at", occurred_at)
            occurred = max(0, self._parts.scale.tick_at(moment))
        unique = event_id if event_id is not None else self._ids.command_id()
        return self._lifecycle.ingest(
            type,
            contact_id,
            run_id,
            step_id,
            held,
            occurred,
            check_id("event_id", unique),
            meta,
        )


def _scope(level: str, channel: str | None, plan_id: str | None) -> str:
    if level not in ("global", "channel", "plan", "regulatory"):
        raise InvalidInput("level", "must be 'global', 'channel', 'plan' or 'regulatory'")
    if (level == "channel") != (channel in ("email", "voice")):
        raise InvalidInput("channel", "is 'email' or 'voice' at the channel level, else left out")
    if (level == "plan") != (plan_id is not None):
        raise InvalidInput("plan_id", "is given at the plan level, else left out")
    return check_id("plan_id", plan_id) if plan_id is not None else channel or ""


def _channel(channel: object) -> str:
    if channel not in ("email", "voice"):
        raise InvalidInput("channel", "must be 'email' or 'voice'")
    return str(channel)


def _purpose(purpose: str | None) -> str:
    return "" if purpose is None else check_id("purpose", purpose)
