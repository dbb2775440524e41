"""Waiting for the jobs of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from dee_es.client.transport import (
    API,
    ApiRefused,
    Transport,
    key_given,
    knowing,
    problem_error,
)

_STARTS: Final = 3
_LOST: Final = ("JobNotFound", "FileGone")
_FIRST_S: Final = 0.02
_MOST_S: Final = 1.0
OnJob = Callable[[Mapping[str, Any]], object]
"""Told how a job stands, as `GET /jobs/{id}` says it."""


def done(
    transport: Transport,
    path: str,
    given: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    on_job: OnJob | None = None,
    look: OnJob | None = None,
) -> dict[str, Any]:
    """Start a job, and return it once it has ended well and `look` has seen what else there is.

    A server that was started anew does not know its jobs, and one that has erased a contact
    meanwhile gives out no file: the same call under the same key goes on then. Raises what the job
    failed with, and `ApiRefused` if somebody ended it early.
    """
    chosen, start = key_given(key), 1
    while True:
        try:
            job = _ended(transport, transport.post(path, given, key=chosen), on_job)
            if look is not None:
                look(job)
            return job
        except ApiRefused as error:
            if error.error not in _LOST or start == _STARTS:
                raise
        start += 1


def _ended(
    transport: Transport, started: Mapping[str, Any], on_job: OnJob | None
) -> dict[str, Any]:
    job, wait = dict(started), _FIRST_S
    with knowing(lambda: _far(job)):
        while job["state"] in ("queued", "running"):
            time.sleep(wait)
            wait = min(_MOST_S, 2 * wait)
            job = transport.get(f"/jobs/{job['id']}")
            if on_job is not None:
                on_job(job)
    if job["problem"] is not None:
        said = job["problem"]
        raise problem_error(said["error"], said["detail"], said["status"], said)
    if job["state"] != "done":
        raise ApiRefused(409, "JobAborted", f"job {job['id']} was ended early")
    return job


def _far(job: Mapping[str, Any]) -> str:
    """How far a job was when it was last heard of; nothing if it had hardly begun."""
    far = job["progress"]
    of = "" if far["total"] is None else f" of {far['total']}"
    return f"{far['done']}{of} of {job['kind']}" if far["done"] else ""


def fetch_made(
    transport: Transport,
    path: str,
    given: Mapping[str, Any],
    file: IO[bytes],
    *,
    on_job: OnJob | None = None,
) -> dict[str, Any]:
    """Start a job that makes a file, and write that into this one once it is there."""

    def fetch(job: Mapping[str, Any]) -> None:
        transport.receive(file_of(job), file)

    return done(transport, path, given, on_job=on_job, look=fetch)


def file_of(job: Mapping[str, Any]) -> str:
    """Where the file is that a job made, as a path of the API; `ApiRefused` if it is gone."""
    if job["file"] is None:
        raise ApiRefused(410, "FileGone", "a contact was erased since the job began")
    return str(job["file"]).removeprefix(API)


def telling(on_progress: Callable[[int, int], object] | None) -> OnJob | None:
    """Tells how far a job is, of how much, as soon as that is known."""

    def told(job: Mapping[str, Any]) -> None:
        far = job["progress"]
        if on_progress is not None and far["total"] is not None:
            on_progress(far["done"], far["total"])

    return None if on_progress is None else told
