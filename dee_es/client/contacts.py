"""Contacts over HTTP: suppression, consent, and erasure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import IO, Any

from dee_es.client.outputs import deliver, here
from dee_es.client.reading import read
from dee_es.client.suppressions import SuppressionsClient
from dee_es.client.transport import Transport, part
from dee_es.core.channels import ChannelName
from dee_es.core.events import Level
from dee_es.engine.api.base import checked_reason
from dee_es.engine.retention.certificate import file_name
from dee_es.engine.retention.erasure import Erased


class ContactsClient(SuppressionsClient):
    """Single contacts, and what `SuppressionsClient` has for lists of them."""

    _http: Transport

    def suppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: ChannelName | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Put a contact on the suppression list."""
        given = _listing(contact_id, email, phone, level, channel, plan_id, reason)
        return self._applied("/contacts/suppress", given, command_id)

    def unsuppress(
        self,
        contact_id: str | None = None,
        *,
        email: str | None = None,
        phone: str | None = None,
        level: Level = "global",
        channel: ChannelName | None = None,
        plan_id: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Lift a suppression that was made with the same id or address."""
        given = _listing(contact_id, email, phone, level, channel, plan_id, reason)
        return self._applied("/contacts/unsuppress", given, command_id)

    def grant_consent(
        self,
        contact_id: str,
        channel: ChannelName,
        *,
        purpose: str | None = None,
        expires_at: datetime | None = None,
        source: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact agreed to a channel."""
        given = {
            "channel": channel,
            "purpose": purpose,
            "expiresAt": expires_at,
            "source": source,
            "reason": reason,
        }
        path = f"/contacts/{part('contact_id', contact_id)}/grant-consent"
        return self._applied(path, given, command_id)

    def revoke_consent(
        self,
        contact_id: str,
        channel: ChannelName,
        *,
        purpose: str | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> bool:
        """Record that the contact took its consent back; without a purpose, all of it."""
        given = {"channel": channel, "purpose": purpose, "reason": reason}
        path = f"/contacts/{part('contact_id', contact_id)}/revoke-consent"
        return self._applied(path, given, command_id)

    def _applied(self, path: str, given: dict[str, Any], key: str | None) -> bool:
        return bool(self._http.post(path, given, key=key)["changed"])

    def erase_contact(
        self,
        contact_id: str,
        reason: str,
        *,
        certificate: str | None = None,
        command_id: str | None = None,
    ) -> Erased:
        """Make all personal data of a contact unreadable for ever.

        The server writes the signed certificate to the place of its settings. With `certificate`, a
        folder on this machine, it is written there as well, which is tried before anything is done.
        Raises what the engine does, and `InvalidInput` for a URL.
        """
        path = f"/contacts/{part('contact_id', contact_id)}/erase"
        given = {"reason": checked_reason(reason)}
        if certificate is None:
            return read(Erased, self._http.post(path, given, key=command_id))
        place = here("certificate", certificate) / file_name(contact_id)
        found: list[Erased] = []

        def fill(file: IO[bytes]) -> None:
            found.append(read(Erased, self._http.post(path, given, key=command_id)))
            file.write(found[0].certificate.encode())

        deliver(place, fill)
        return replace(found[0], written_to=str(place))


def _listing(
    contact_id: str | None,
    email: str | None,
    phone: str | None,
    level: str,
    channel: str | None,
    plan_id: str | None,
    reason: str | None,
) -> dict[str, Any]:
    return {
        "contactId": contact_id,
        "email": email,
        "phone": phone,
        "level": level,
        "channel": channel,
        "planId": plan_id,
        "reason": reason,
    }
