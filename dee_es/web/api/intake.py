"""Contacts for a bulk enrolment: out of a JSON document, or out of an uploaded CSV file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, cast

from fastapi import Request
from pydantic import BeforeValidator, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from dee_es.core.contact import Contact
from dee_es.core.plan import ExecutionPlan
from dee_es.doors.contacts_csv import read_contacts
from dee_es.doors.enroll_rows import Intake
from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Answer, BulkResult, Refusal
from dee_es.errors import InvalidInput
from dee_es.web.api.models import Given, Values
from dee_es.web.api.plan_reference import REFERENCE
from dee_es.web.api.runs import ContactGiven
from dee_es.web.jobs import Job, Work
from dee_es.web.problems import Refused, first_fault

if TYPE_CHECKING:
    from dee_es.web.api.bulk import BulkExecute

_SPOOLED: Final = 1024 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def _object(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not a JSON object") from None


class CsvOptions(Given):
    """What stands in the query beside a CSV file."""

    plan: Annotated[str, Field(pattern=REFERENCE)]
    batch_size: int = Field(100, ge=1, le=100_000)
    dedupe: Literal["address", "id"] = "address"
    dry_run: bool = False
    variables: Annotated[Values, BeforeValidator(_object)] = Field(default_factory=dict)


class Enrolled(Answer):
    """What became of the contacts: the counts add up to `contacts`, those given so far."""

    contacts: int
    created: int
    skipped: int
    errors: int
    already_enrolled: int
    suppressed: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that was received whole, in a file without a name."""

    file: BinaryIO
    size: int
    digest: bytes

    def close(self) -> None:
        """Let the file go."""
        self.file.close()


async def received(request: Request, at_once: int) -> Upload:
    """Take in a body as it comes, in memory that does not grow.

    Raises `Refused` if `at_once` others are on their way.
    """
    state = request.app.state
    under_way = getattr(state, "uploads", 0)
    if under_way >= at_once:
        raise Refused(429, "TooManyUploads", "other files are on their way", {"Retry-After": "5"})
    state.uploads = under_way + 1
    try:
        return await _received(request)
    finally:
        state.uploads -= 1


async def _received(request: Request) -> Upload:
    file = await run_in_threadpool(_unnamed)
    digest, size = hashlib.sha256(), 0
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            digest.update(chunk)
            waiting += chunk
            size += len(chunk)
            if len(waiting) >= _SPOOLED:
                await run_in_threadpool(file.write, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(file.write, bytes(waiting))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Upload(file, size, digest.digest())


def _unnamed() -> BinaryIO:
    return cast(BinaryIO, tempfile.TemporaryFile("w+b"))


@dataclass(slots=True)
class _Told:
    """Passes refusals on to the job, and counts them by reason."""

    job: Job
    counts: Counter[str]

    def add(self, line: int | None, contact_id: str | None, reason: str, detail: str) -> None:
        """Take note of a row."""
        self.counts[reason] += 1
        self.job.add(line, contact_id, reason, detail)


def of_csv(
    engine: EngineApi,
    plan: ExecutionPlan,
    upload: Upload,
    given: CsvOptions,
    actor: str,
    command_id: str | None,
) -> Work:
    """The work of enrolling the rows of a file, as `dee enroll` does."""

    def work(job: Job) -> Answer:
        told = _Told(job, Counter())
        with closing(read_contacts(upload.file)) as rows:
            intake = Intake(engine, rows, given.dedupe, told, given.batch_size)

            def on_progress(result: BulkResult) -> None:
                read = os.lseek(upload.file.fileno(), 0, os.SEEK_CUR)
                fraction = read / upload.size if upload.size else None
                job.progress(result.done + intake.held_back, None, fraction)
                job.result = shown(result).model_dump(mode="json", by_alias=True)

            def shown(result: BulkResult) -> Enrolled:
                return Enrolled(
                    contacts=result.done + intake.held_back,
                    created=result.created,
                    skipped=result.skipped + intake.duplicates,
                    errors=result.errors + intake.refused,
                    already_enrolled=told.counts["already_enrolled"],
                    suppressed=told.counts["suppressed"],
                    dry_run=given.dry_run,
                )

            return shown(
                engine.bulk_execute(
                    plan,
                    _until_stopped(job, intake.contacts()),
                    given.variables,
                    given.batch_size,
                    on_progress,
                    intake.on_refusal,
                    given.dry_run,
                    actor=actor,
                    command_id=command_id,
                )
            )

    return work


class _Document:
    """The contacts of a document, one after the other, and an account of what became of them."""

    def __init__(self, job: Job, given: BulkExecute) -> None:
        self._job = job
        self._given = given
        self._told = _Told(job, Counter())
        self._unusable = 0

    def contacts(self) -> Iterator[Contact]:
        """Those that can be used; the others are told."""
        for number, each in enumerate(self._given.contacts):
            try:
                person = ContactGiven.model_validate(each)
                yield Contact.model_validate(person.model_dump())
            except (ValidationError, InvalidInput) as error:
                self._unusable += 1
                detail = f"contacts[{number}]: {_why(error)}"
                self._told.add(None, _id_of(each), "invalid", detail)

    def on_refusal(self, refusal: Refusal) -> None:
        """Take note of a contact that the engine refused."""
        self._told.add(None, refusal.contact_id, refusal.reason, refusal.detail)

    def on_progress(self, result: BulkResult) -> None:
        """Tell how far it is."""
        self._job.progress(result.done + self._unusable, len(self._given.contacts))
        self._job.result = self.shown(result).model_dump(mode="json", by_alias=True)

    def shown(self, result: BulkResult) -> Enrolled:
        """What became of the contacts so far."""
        return Enrolled(
            contacts=result.done + self._unusable,
            created=result.created,
            skipped=result.skipped,
            errors=result.errors + self._unusable,
            already_enrolled=self._told.counts["already_enrolled"],
            suppressed=self._told.counts["suppressed"],
            dry_run=self._given.dry_run,
        )


def of_json(
    engine: EngineApi,
    plan: ExecutionPlan,
    given: BulkExecute,
    actor: str,
    command_id: str | None,
) -> Work:
    """The work of enrolling the contacts of a document."""

    def work(job: Job) -> Answer:
        document = _Document(job, given)
        result = engine.bulk_execute(
            plan,
            _until_stopped(job, document.contacts()),
            given.variables,
            given.batch_size,
            document.on_progress,
            document.on_refusal,
            given.dry_run,
            actor=actor,
            command_id=command_id,
        )
        return document.shown(result)

    return work


def _until_stopped(job: Job, contacts: Iterator[Contact]) -> Iterator[Contact]:
    """The contacts, up to the moment in which somebody wants the job to end."""
    for each in contacts:
        if job.stop.is_set():
            job.cut_short = True
            return
        yield each


def _id_of(given: object) -> str | None:
    """The contact's id if it has a usable one, for the list of refusals."""
    found = given.get("id") if isinstance(given, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None


def _why(error: ValidationError | InvalidInput) -> str:
    if isinstance(error, InvalidInput):
        return str(error)
    field, problem = first_fault(error.errors(include_input=False, include_url=False))
    return f"{field}: {problem}"
