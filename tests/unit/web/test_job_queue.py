"""Jobs, without a server around them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dee_es.errors import InvalidInput
from dee_es.web.job_files import Refusals, RefusedContact
from dee_es.web.jobs import Job, Jobs
from dee_es.web.security.roles import Role


def done(job: Job) -> dict[str, Any]:
    return {"id": job.id}


def test_a_job_that_begins_while_the_server_ends_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs, released = Jobs(1, 1, lambda *_: True), list[str]()
    closing, submit = threading.Thread(target=jobs.close), jobs._pool.submit

    def late(*given: Any) -> Any:
        closing.start()
        closing.join(0.2)
        return submit(*given)

    monkeypatch.setattr(jobs._pool, "submit", late)
    job = jobs.start("test", "robin", Role.VIEWER, done, release=lambda: released.append("once"))
    closing.join()
    assert job.state.ended
    assert released == ["once"]


def test_refusals_are_read_from_where_a_page_ended_and_from_nowhere_else() -> None:
    refusals = Refusals()
    for number in range(3):
        told = RefusedContact(line=number, contact_id=f"ü{number}", reason="invalid", detail="id")
        refusals.add(told)
    first = refusals.page(0, 2)
    ends = int(first.next_cursor or "")
    assert [each.line for each in refusals.page(ends, 2).refusals] == [2]
    for nowhere in {*range(1, ends)} - {ends // 2}:
        with pytest.raises(InvalidInput) as refused:
            refusals.page(nowhere, 2)
        assert refused.value.field == "cursor"
    assert refusals.page(10**15 - 1, 2).refusals == ()
    refusals.close()
