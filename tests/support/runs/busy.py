"""Logs with everything in them: many runs of two plans, and what happens to them at random."""

from __future__ import annotations

import random

from dee_es import Contact, Engine
from dee_es.errors import DeeError
from tests.support.engines import calling, outreach, publish_basics


def person(number: int) -> Contact:
    """A contact of this number."""
    return Contact(
        id=f"contact_{number}",
        email=f"jane{number}@example.com",
        phone=f"+1555{number:09}",
        timezone="Europe/Vienna",
        firstName="Jane",
    )


def prepare(engine: Engine) -> None:
    """Publish what the runs refer to."""
    publish_basics(engine)
    engine.publish_plan(outreach())
    engine.publish_plan(calling())


def keep_busy(engine: Engine, events: int, seed: int, first: int = 0) -> None:
    """Do things at random until the log has grown by so many events; numbers of new contacts begin
    at `first`."""
    chance = random.Random(seed)
    target = engine.health().position + events
    number = first
    some: list[str] = []
    while engine._parts.store.log_head().position < target:
        size = chance.choice([1, 2, 5, 60])
        plan = chance.choice([outreach(), calling()])
        engine.bulk_execute(plan, [person(number + n) for n in range(size)])
        number += size
        some = [run.id for run in engine.list_runs(limit=40).runs]
        for run_id in chance.sample(some, min(4, len(some))):
            try:
                _something(engine, chance, run_id)
            except DeeError:
                # Not every run can do everything at any time.
                continue
        engine.run_until(engine.now().tick + chance.choice([1, 3600, 43_200, 200_000]))


def _something(engine: Engine, chance: random.Random, run_id: str) -> None:
    match chance.randrange(6):
        case 0:
            engine.pause_run(run_id, "wait")
        case 1:
            engine.resume_run(run_id)
        case 2:
            engine.cancel_run(run_id, "enough")
        case 3:
            engine.retry_run(run_id, "once more")
        case 4:
            kind = chance.choice(["email.replied", "email.opened", "email.unsubscribed"])
            engine.ingest_event(kind, engine.get_run(run_id).contact_id)
        case _:
            engine.execute(outreach(), contact=person(chance.randrange(10**9)))
