"""From rows of a contacts file to contacts: ids, duplicates, an account of every refusal."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from dee_es.doors.contacts_csv import CsvContact, CsvRefusal, CsvRow
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.core.contact import Contact
    from dee_es.engine.facade import EngineApi
    from dee_es.engine.models import Refusal

Dedupe = Literal["address", "id"]


class Refused(Protocol):
    """Takes note of every row that is not enrolled."""

    def add(self, line: int | None, contact_id: str | None, reason: str, detail: str) -> None:
        """Take note of a row. `detail` names columns and never shows their values."""


class Intake:
    """Turns rows into contacts while the engine asks for them.

    With `dedupe="address"` the first row with an address is the contact, and any later one is
    refused; the address is the e-mail address, or the phone number of a row without one. For that
    a digest and a line number of every row are kept: about 200 bytes a row, 200 MB for a million.
    With `dedupe="id"` nothing is kept.
    """

    def __init__(
        self,
        engine: EngineApi,
        rows: Iterable[CsvRow],
        dedupe: Dedupe,
        refusals: Refused,
        batch_size: int,
        workers: int = 1,
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._seen: dict[bytes, int] | None = {} if dedupe == "address" else None
        self._refusals = refusals
        # Batches that the engine may have taken in before it tells what became of the first.
        under_way = 3 if workers == 1 else 10 * workers
        self._lines = _Lines(under_way * batch_size)
        self.rows = 0
        self.refused = 0
        """Rows that are not valid and that the engine never saw."""
        self.duplicates = 0

    @property
    def held_back(self) -> int:
        """Rows the engine never saw."""
        return self.refused + self.duplicates

    def contacts(self) -> Iterator[Contact]:
        """The contacts to enroll."""
        for row in self._rows:
            self.rows += 1
            if isinstance(row, CsvRefusal):
                self._invalid(row.line, None, row.reason)
            elif (contact := self._contact(row)) is not None:
                self._lines.note(contact.id, row.line)
                yield contact

    def on_refusal(self, refusal: Refusal) -> None:
        """Take note of a contact that the engine refused, with the line it came from."""
        line = self._lines.take(refusal.contact_id)
        self._refusals.add(line, refusal.contact_id, refusal.reason, refusal.detail)

    def _invalid(self, line: int, contact_id: str | None, detail: str) -> None:
        self.refused += 1
        self._refusals.add(line, contact_id, "invalid", detail)

    def _contact(self, row: CsvContact) -> Contact | None:
        from dee_es.core.contact import Contact

        who = row.id
        try:
            if who is None:
                who = self._engine.contact_id_for(email=row.email, phone=row.phone)
            contact = Contact(
                id=who,
                email=row.email,
                phone=row.phone,
                timezone=row.timezone,
                attributes=row.attributes,
            )
        except InvalidInput as error:
            self._invalid(row.line, who, str(error))
            return None
        first = self._first_line(row)
        if first is not None:
            self.duplicates += 1
            detail = f"already enrolled: has the address of line {first}"
            self._refusals.add(row.line, who, "already_enrolled", detail)
            return None
        return contact

    def _first_line(self, row: CsvContact) -> int | None:
        """The line that has this row's address already; None if this is the first."""
        address = address_digest(row.email, row.phone)
        if self._seen is None or address is None:
            return None
        first = self._seen.setdefault(address, row.line)
        return None if first == row.line else first


def address_digest(email: str | None, phone: str | None) -> bytes | None:
    """Sixteen bytes that are equal for equal addresses; None without any."""
    from dee_es.core.contact import normalize_email, normalize_phone

    if email is not None:
        text = f"email {normalize_email(email)}"
    elif phone is not None:
        text = f"phone {normalize_phone(phone)}"
    else:
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class _Lines:
    """Which line a contact in flight came from; remembers so many and forgets the oldest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._order: deque[tuple[str, int]] = deque()
        self._lines: dict[str, list[int]] = {}

    def note(self, contact_id: str, line: int) -> None:
        """Remember the line of a contact."""
        self._order.append((contact_id, line))
        self._lines.setdefault(contact_id, []).append(line)
        if len(self._order) > self._most:
            oldest, its_line = self._order.popleft()
            lines = self._lines.get(oldest, [])
            if its_line in lines:
                lines.remove(its_line)
            if not lines:
                self._lines.pop(oldest, None)

    def take(self, contact_id: str | None) -> int | None:
        """The line of a refused contact; of one given twice the later, as the first was taken."""
        lines = self._lines.get(contact_id) if contact_id is not None else None
        return lines.pop() if lines else None
