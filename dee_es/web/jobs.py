"""Long work, done in the background of a request: how far it is, what came of it, and an end to it.

Jobs live in this process and end with it; what they had done by then stays done. The same call
under the same Idempotency-Key goes on from there, and any other call under it is refused.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from dee_es.engine.models import Answer
from dee_es.errors import DeeError
from dee_es.web.idempotency import reused
from dee_es.web.job_files import JobFile, Refusals, RefusedContact
from dee_es.web.problems import Problem, Refused, problem_of
from dee_es.web.security.roles import Role

_KEPT: Final = 100
_log: Final = logging.getLogger("dee_es.web")


class State(StrEnum):
    """How a job stands: it waits for its turn, runs, or has ended in one of three ways."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.FAILED, State.ABORTED)


class Progress(Answer):
    """How far a job is: `done` of `total`, both None or 0 while nobody knows; `fraction` from 0 to
    1, which it is once the job is done; `rate` a second since it began; `seconds_left` at that
    rate."""

    done: int
    total: int | None
    fraction: float | None
    rate: float
    seconds_left: float | None


class JobView(Answer):
    """A job. `result` is what the call would have answered, `problem` why it failed; `refusals`
    counts what was refused one by one, see /jobs/{id}/refusals; `file` is where to get the file
    that the job made. Times are UTC."""

    id: str
    kind: str
    state: State
    actor: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    result: dict[str, Any] | None
    problem: Problem | None
    refusals: int
    file: str | None = None


class Aborted(Exception):
    """Somebody asked the job to end; raised between two batches."""


@dataclass(slots=True)
class Job:
    """One piece of work; its own thread writes, everybody reads."""

    id: str
    kind: str
    actor: str
    role: Role
    """The role that ending it needs."""
    digest: bytes
    state: State = State.QUEUED
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    problem: Problem | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    cut_short: bool = False
    """Set by the work when it ended early because of `stop`."""
    refusals: Refusals = field(default_factory=Refusals)
    file: JobFile | None = None
    as_json: JobFile | None = None
    outdated: bool = False
    """Set when a contact was erased since: its files may hold what nobody may have any more."""
    _done: int = 0
    _total: int | None = None
    _fraction: float | None = None
    _began: float = 0.0
    _ended: float = 0.0

    # --- for the work -----------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `Aborted` if somebody wants the job to end; called between batches."""
        if self.stop.is_set():
            raise Aborted

    def progress(self, done: int, total: int | None = None, fraction: float | None = None) -> None:
        """Tell how far it is."""
        self._done, self._total = done, total
        if fraction is None and total:
            fraction = done / total
        self._fraction = None if fraction is None else min(1.0, fraction)

    def ended(self) -> None:
        """Tell that all of it is done; of its last piece nobody was told that."""
        self._done = self._done if self._total is None else self._total

    def add(self, line: int | None, contact_id: str | None, reason: str, detail: str) -> None:
        """Take note of a contact that was refused."""
        self.refusals.add(
            RefusedContact(line=line, contact_id=contact_id, reason=reason, detail=detail)
        )

    def make_file(self, name: str, kind: str) -> JobFile:
        """A file to write what the job makes into; it can be had once the job is done."""
        self.file = JobFile(name, kind)
        return self.file

    def make_json(self, name: str) -> JobFile:
        """A second file beside the other one: the same for programs."""
        self.as_json = JobFile(name, "json")
        return self.as_json

    # --- for everybody ----------------------------------------------------------------------------

    def view(self) -> JobView:
        """As it stands now."""
        return JobView(
            id=self.id,
            kind=self.kind,
            state=self.state,
            actor=self.actor,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            progress=self._shown(),
            result=self.result,
            problem=self.problem,
            refusals=self.refusals.count,
            file=f"/api/v1/jobs/{self.id}/file" if self.made is not None else None,
        )

    @property
    def made(self) -> JobFile | None:
        """The file that the job made, if it is done and nobody was erased since it began."""
        return self.file if self.state is State.DONE and not self.outdated else None

    @property
    def made_json(self) -> JobFile | None:
        """The same for programs, if the job made that as well and is done."""
        return self.as_json if self.state is State.DONE and not self.outdated else None

    def close(self) -> None:
        """Let go of all it keeps."""
        self.refusals.close()
        self.close_files()

    def close_files(self) -> None:
        """Let go of the files that it made."""
        for file in (self.file, self.as_json):
            if file is not None:
                file.close()

    def _shown(self) -> Progress:
        done = self._done
        fraction = 1.0 if self.state is State.DONE else self._fraction
        spent = (self._ended or time.monotonic()) - self._began if self._began else 0.0
        left = None
        if fraction and not self.state.ended:
            left = spent * (1 - fraction) / fraction
        return Progress(
            done=done,
            total=self._total,
            fraction=fraction,
            rate=done / spent if spent > 0 else 0.0,
            seconds_left=left,
        )


Work = Callable[[Job], BaseModel | dict[str, Any]]


class Jobs:
    """A bounded number of jobs: so many run, so many wait, and the last hundred are kept.

    `same` notes durably what a command id was used for, and is False if it was something else.
    """

    def __init__(self, workers: int, waiting: int, same: Callable[[str, bytes], bool]) -> None:
        self._same = same
        self._pool = ThreadPoolExecutor(workers, "dee-job")
        self._most = workers + waiting
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._keys: dict[str, str] = {}
        self._closed = False

    def start(
        self,
        kind: str,
        actor: str,
        role: Role,
        work: Work,
        *,
        command_id: str | None = None,
        digest: bytes = b"",
        release: Callable[[], object] = lambda: None,
    ) -> Job:
        """Begin a job, or return the one that this command id began before.

        One that failed or was aborted is begun anew, and goes on where the log says it was; so is
        one whose file was let go.
        `release` is called once, when the work is over or not begun. Raises `Refused` if too many
        jobs are under way, and if the command id was used for another call (`digest`).
        """
        try:
            if command_id is not None and not self._same(command_id, digest):
                raise reused()
            with self._lock:
                known = self._known(command_id, digest)
                if known is not None:
                    release()
                    return known
                self._check_room()
                job = Job(f"job_{secrets.token_hex(12)}", kind, actor, role, digest)
                self._jobs[job.id] = job
                if command_id is not None:
                    self._keys[command_id] = job.id
                self._forget_old()
                # Here, or the pool might close in between, and the job would wait for ever.
                self._pool.submit(self._run, job, work, release)
        except (Refused, DeeError):
            release()
            raise
        return job

    def check_room(self) -> None:
        """Raise `Refused` if no job could be started now."""
        with self._lock:
            self._check_room()

    def _check_room(self) -> None:
        under_way = sum(not job.state.ended for job in self._jobs.values())
        if self._closed or under_way >= self._most:
            raise Refused(
                429,
                "TooManyJobs",
                f"{under_way} jobs are under way; wait for one to end",
                {"Retry-After": "5"},
            )

    def get(self, job_id: str) -> Job:
        """A job by its id; raises `Refused` if it is not, or no longer, here."""
        with self._lock:
            found = self._jobs.get(job_id)
        if found is None:
            raise Refused(404, "JobNotFound", "there is no such job here; jobs end with the server")
        return found

    def all(self) -> list[Job]:
        """All jobs that are known, the newest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def let_files_go(self) -> None:
        """A contact was erased: what jobs made of the log until now is had no more. One that still
        runs may have read already, so that its file is not to be had either."""
        with self._lock:
            for job in self._jobs.values():
                made = job.file is not None or job.as_json is not None
                if made or not job.state.ended:
                    job.outdated = True
                    if job.state.ended:
                        job.close_files()

    def close(self) -> None:
        """Ask all jobs to end after their batch, and wait for that."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stop.set()
        self._pool.shutdown(wait=True)
        for job in jobs:
            job.close()

    def _known(self, command_id: str | None, digest: bytes) -> Job | None:
        job = self._jobs.get(self._keys.get(command_id or "", ""))
        if job is None:
            return None
        if job.digest != digest:
            raise reused()
        again = job.state in (State.FAILED, State.ABORTED) or (
            job.outdated and job.state.ended and job.file is not None
        )
        return None if again else job

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs.values() if job.state.ended]
        for job in ended[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[job.id]
            job.close()
            self._keys = {key: name for key, name in self._keys.items() if name != job.id}

    def _run(self, job: Job, work: Work, release: Callable[[], object]) -> None:
        state = State.ABORTED
        try:
            if not job.stop.is_set():
                job.started_at, job._began = datetime.now(UTC), time.monotonic()
                job.state = State.RUNNING
                found = work(job)
                if isinstance(found, BaseModel):
                    found = found.model_dump(mode="json", by_alias=True)
                job.result = found
                state = State.ABORTED if job.cut_short else State.DONE
        except Aborted:
            pass
        except DeeError as error:
            job.problem, state = problem_of(error, f"/api/v1/jobs/{job.id}"), State.FAILED
        except Exception as error:
            # The text of an unforeseen error may hold anything: only its class is told, in the log.
            _log.error("job_failed", extra={"job": job.id, "error": type(error).__name__})
            job.problem, state = _unforeseen(job), State.FAILED
        finally:
            release()
            job.finished_at, job._ended = datetime.now(UTC), time.monotonic()
            job.state = state


def _unforeseen(job: Job) -> Problem:
    return Problem(
        type="urn:dee:problem:InternalError",
        title="Internal error",
        status=500,
        detail="the server failed at this job",
        instance=f"/api/v1/jobs/{job.id}",
        error="InternalError",
    )
