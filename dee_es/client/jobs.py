"""Waiting for the jobs of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from dee_es.client.transport import ApiRefused, Transport, problem_error

_FIRST_S: Final = 0.02
_MOST_S: Final = 1.0
OnJob = Callable[[Mapping[str, Any]], object]
"""Told how far a job is: `done`, `total`, `fraction`, `rate` and `secondsLeft`."""


def result_of(
    transport: Transport, started: Mapping[str, Any], on_progress: OnJob | None = None
) -> dict[str, Any]:
    """The job once it has ended well. Raises what it failed with, and `ApiRefused` if somebody
    ended it early. Interrupted, it goes on at the server."""
    job, wait = dict(started), _FIRST_S
    while job["state"] in ("queued", "running"):
        time.sleep(wait)
        wait = min(_MOST_S, 2 * wait)
        job = transport.get(f"/jobs/{job['id']}")
        if on_progress is not None:
            on_progress(job["progress"])
    if job["problem"] is not None:
        said = job["problem"]
        raise problem_error(said["error"], said["detail"], said["status"], said)
    if job["state"] != "done":
        raise ApiRefused(409, "JobAborted", f"job {job['id']} was ended early")
    return job
