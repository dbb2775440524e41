"""Contacts for a bulk enrolment: out of a JSON document, or out of an uploaded CSV file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, ValidationError

from dee_es.core.contact import Contact
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.doors.contacts_csv import read_contacts
from dee_es.doors.enroll_rows import Intake
from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Answer, BulkResult, Refusal
from dee_es.errors import InvalidInput
from dee_es.web.api.csv_options import CsvOptions
from dee_es.web.api.models import Flag, Given, Values
from dee_es.web.api.plan_reference import PlanGiven
from dee_es.web.api.runs import ContactGiven
from dee_es.web.api.uploads import Upload
from dee_es.web.jobs import Job, Work
from dee_es.web.problems import first_fault

_Item = TypeVar("_Item")
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BulkExecute(Given):
    """Contacts to enroll in a plan; each is looked at on its own, and what is wrong with one is
    told among the job's refusals."""

    plan: PlanGiven
    contacts: list[Any]
    variables: Values = Field(default_factory=dict)
    batch_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 100
    dry_run: Flag = False


class Enrolled(Answer):
    """What became of the contacts: the counts add up to `contacts`, those given so far."""

    contacts: int
    created: int
    skipped: int
    errors: int
    already_enrolled: int
    suppressed: int
    dry_run: bool


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
        file, place = upload.reading()
        with file, closing(read_contacts(file, given.kinds)) as rows:
            # Not only between contacts: there may be millions of rows of which none is one.
            read = _until_stopped(job, rows)
            intake = Intake(engine, read, given.dedupe, told, given.batch_size)

            def on_progress(result: BulkResult) -> None:
                fraction = place.position / upload.size if upload.size else None
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
                    intake.contacts(),
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


def _until_stopped(job: Job, given: Iterator[_Item]) -> Iterator[_Item]:
    """What is given, up to the moment in which somebody wants the job to end."""
    for each in given:
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
