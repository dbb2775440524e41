"""Erasing a contact: its key is destroyed, and all that was written about it stays as it is.

Each step can be repeated: an erasure that was broken off is finished by calling it again. First the
contact is put on the regulatory list under all that it is known by, together with the record of the
erasure, so that no new run can begin; then its open runs end, by an exit condition if one holds,
else cancelled; then the key goes, with it what channels keep of the runs outside the log, and last
the certificate, which follows from the log alone, is recorded and written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.evidence.signed_note import sign_note
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.auditing.signed_log import SignedLog
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.contacts.streams import ContactStreams
from dee_es.engine.log.missing import archived_runs
from dee_es.engine.log.settling import Standing, Wanted, first_by, reused, settle
from dee_es.engine.queries import Queries
from dee_es.engine.retention.archiver import Archiver
from dee_es.engine.retention.certificate import Certificates, file_name
from dee_es.engine.retention.holds import Holds
from dee_es.engine.transact import Runs
from dee_es.errors import InvalidInput, InvalidTransition
from dee_es.ports import ForgetRuns, KeyStore, Place, PlaceSource, Signer


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: the runs it cancelled now (others it ended by their exit condition), all
    runs of the contact, and the signed certificate with the place it was written to."""

    contact_id: str
    cancelled: tuple[str, ...]
    runs: tuple[str, ...]
    key_destroyed: bool
    certificate: str
    written_to: str


class Erasure:
    """Erases contacts."""

    def __init__(
        self,
        runs: Runs,
        queries: Queries,
        identities: Identities,
        contacts: ContactStreams,
        keys: KeyStore,
        holds: Holds,
        archiver: Archiver,
        certificates: Certificates,
        log: SignedLog,
        places: PlaceSource,
        forget_runs: ForgetRuns | None,
    ) -> None:
        self._runs = runs
        self._queries = queries
        self._identities = identities
        self._contacts = contacts
        self._keys = keys
        self._holds = holds
        self._archiver = archiver
        self._certificates = certificates
        self._log = log
        self._places = places
        self._forget_runs = forget_runs
        self._store = runs.store

    def erase(self, contact_id: str, meta: Callable[[], e.Meta], place: str) -> Erased:
        """Erase a contact, or finish its erasure, and write the certificate into a place.

        Raises `InvalidInput` for a contact that nobody knows, for an id of another command and for
        a signing key that cannot be had, `HoldInForce` while a hold is on the contact or one of its
        runs, and `AnchorUnavailable` if one of its runs is in an archive that cannot be read.
        """
        key_id = self._store.contact_keys([contact_id]).get(contact_id)
        archived = () if key_id is not None else archived_runs(self._store, contact_id)
        if key_id is None and not archived and not self._rows(contact_id):
            stream = contact_stream(contact_id)
            if stream not in self._store.heads([stream]):
                raise InvalidInput("contact_id", f"nothing is known of {contact_id!r}")
        # What may be missing or at fault is asked for before anything is done.
        self._check_id(contact_id, meta())
        signer = self._log.signer(self._log.tail())
        kept = self._places(place)
        # Twice: a run that began before the first was committed may know another address.
        for _ in range(2):
            self._record(contact_id, meta)
        cancelled = tuple(
            run_id for run_id, ended in self._rows(contact_id) if not ended
            if self._end(run_id, meta) == RunStatus.CANCELLED
        )  # fmt: skip
        held = self._store.contact_keys([contact_id]).get(contact_id)
        if held is not None:
            self._keys.destroy(held)
            self._runs.forget()
        # What callers were answered may be about the contact; it is under no key of the contact's.
        self._store.forget_answers()
        runs = tuple(self._run_ids(contact_id))
        if self._forget_runs is not None:
            self._forget_runs(runs)
        note, where = self._certify(contact_id, runs, meta, signer, kept)
        return Erased(contact_id, cancelled, runs, key_id is not None, note, where)

    def _check_id(self, contact_id: str, given: e.Meta) -> None:
        """Refuse an id that another command to the contact or to one of its open runs has used: the
        run would count as ended by this one."""
        rows = self._store.read_stream(contact_stream(contact_id))
        known = first_by(given.command_id, self._runs.journal.open_public(rows))
        if known is not None and known.meta.command != given.command:
            raise reused(known.meta)
        going = [run_id for run_id, ended in self._rows(contact_id) if not ended]
        for run in self._runs.load_many(going).values():
            self._runs.has_done(run, c.Erase(given))

    def _certify(
        self,
        contact_id: str,
        runs: Sequence[str],
        meta: Callable[[], e.Meta],
        signer: Signer,
        kept: Place,
    ) -> tuple[str, str]:
        """Sign the certificate, and write it where it is kept; returns both."""
        made = self._certificates.of(contact_id, runs)
        note = sign_note(made.text, signer.key, signer.sign)
        name = file_name(contact_id)
        where = f"{kept.address.rstrip('/')}/{name}"
        if not made.known:
            self._certificates.record(made, note, where, meta)
        kept.write(name, [note.encode()])
        return note, where

    def _rows(self, contact_id: str) -> list[tuple[str, bool]]:
        rows = self._queries.all_rows(RunFilter(contact_id=contact_id))
        return [(row.run_id, RunStatus(row.status).ended) for row in rows]

    def _run_ids(self, contact_id: str) -> dict[str, bool]:
        """All runs of the contact, and of each whether it was archived."""
        listed = [run_id for run_id, _ in self._rows(contact_id)]
        # Looked for after the others: a run may go from the list into an archive, and never back.
        archived = archived_runs(self._store, contact_id)
        return dict.fromkeys(listed, False) | dict.fromkeys(archived, True)

    def _record(self, contact_id: str, meta: Callable[[], e.Meta]) -> None:
        stream = contact_stream(contact_id)

        def look() -> Standing[None] | Wanted[None]:
            standing = self._holds.standing()
            rows = self._store.read_stream(stream)
            state = contact_state.fold(self._runs.journal.open(rows))
            # After the system's stream was read: what is archived from now on is a conflict below.
            mine = self._run_ids(contact_id)
            if not state.erased:
                self._holds.refuse(standing, contact_id, mine)
            subjects = self._subjects(contact_id, state, mine)
            # Who had no key gets one to be destroyed: what still arrives is then not kept either.
            key_id = self._store.contact_keys([contact_id]).get(contact_id)
            key_id = key_id or self._keys.new_keys(1)[0]
            events = contact_state.erase(state, contact_id, subjects, key_id.hex())
            if not events:
                return Standing(None)
            unit = self._contacts.unit(stream, rows, events, meta())
            unit = replace(unit, contact_keys=((contact_id, key_id),))
            if not state.erased:
                unit = replace(unit, appends=(*unit.appends, standing.guard()))
            return Wanted(unit, lambda _: None)

        settle(self._runs.committer, self._runs.clock, look, f"contact {contact_id!r}")

    def _subjects(
        self, contact_id: str, state: contact_state.ContactState, runs: Mapping[str, bool]
    ) -> set[str]:
        """All that the contact is known by: its id, what was listed for it, and every address that
        one of its runs began with."""
        ids = [run_id for run_id, archived in runs.items() if not archived]
        people = [run.state.contact for run in self._runs.load_many(ids).values()]
        for each in () if state.erased else [each for each, archived in runs.items() if archived]:
            start = self._runs.journal.open_one(self._archiver.stream(each)[0]).event
            if isinstance(start, e.Start) and start.personal is not None:
                people.append(start.personal)
        listed = {subject for subject, _, _ in state.listed}
        return listed | self._identities.listed_for(contact_id, people)

    def _end(self, run_id: str, meta: Callable[[], e.Meta]) -> RunStatus | None:
        try:
            return self._runs.change(run_id, c.Erase, meta).state.status
        except InvalidTransition:
            return None  # it ended meanwhile
