"""What is not in the log: runs that never were or were archived, contacts that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dee_es.core.ids import run_id
from dee_es.errors import RunArchived, RunNotFound
from dee_es.ports import EventStore


def missing_run(store: EventStore, run_id: str) -> RunNotFound:
    """The error for a run of which the log has no event."""
    stones = store.tombstones_of([run_id]).get(run_id)
    return RunArchived.within(run_id, stones[0].archive) if stones else RunNotFound.named(run_id)


def archived_runs(store: EventStore, contact_id: str, plan_id: str | None = None) -> list[str]:
    """The contact's runs, of one plan or of all, that were archived: no list has them, but their
    ids are computed."""
    found: list[str] = []
    for plans in _plans(store) if plan_id is None else [[plan_id]]:
        number = 1
        while plans:
            ids = {run_id(plan, contact_id, number): plan for plan in plans}
            known = store.heads(list(ids))
            found += store.tombstones_of(list(known))
            plans = [ids[each] for each in known]
            number += 1
    return found


def on_record(store: EventStore, contact_id: str, *found: Sequence[object]) -> bool:
    """Whether the log knows anything of a contact: what was `found` in it, or an archived run."""
    return any(found) or bool(archived_runs(store, contact_id))


def _plans(store: EventStore) -> Iterator[list[str]]:
    after = ""
    while streams := store.stream_ids("plan:", after):
        after = streams[-1]
        yield [stream.removeprefix("plan:") for stream in streams]
