"""A week of an engine whose every source of chance is seeded; prints what came of it.

    python -m tests.support.processes.scenario [--twisted]

Prints a digest of the whole log as it is stored, then a line for each run. `--twisted` makes the
machine's own clock and its chance useless first: whoever asks them gets nonsense, the same or not.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
import time
import uuid

from dee_es import Contact
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.engines import (
    DAY,
    calling,
    fickle,
    open_engine,
    outreach,
    publish_basics,
)

POLICY = {
    "consent": {"required": ["voice"]},
    "windows": {
        "channels": {
            "email": {
                "weekdays": ["mon", "tue", "wed", "thu", "fri"],
                "start": "09:00",
                "end": "17:00",
            }
        }
    },
    "limits": {"perDay": {"channel": {"email": 9}, "contact": 1}},
}


def twist() -> None:
    """Let the surroundings lie."""
    backwards = itertools.count(4_000_000_000, -86_400)
    time.time = lambda: float(next(backwards))  # type: ignore[assignment]
    time.time_ns = lambda: next(backwards) * 10**9  # type: ignore[assignment]
    time.localtime = lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 1))  # type: ignore[assignment]
    random.seed(13)
    random.random = lambda: 0.5  # type: ignore[method-assign]
    uuid.uuid4 = lambda: uuid.UUID(int=4)  # type: ignore[assignment]


def jane(number: int) -> Contact:
    """One of the contacts; names with letters that locales disagree about."""
    return Contact(
        id=f"contact_{number}",
        email=f"Ilı{number}@example.com" if number % 3 == 0 else f"Jane{number}@Example.com",
        phone=f"+15550{100 + number}",
        timezone=["Europe/Vienna", "America/New_York", "Asia/Kathmandu"][number % 3],
        firstName="İpek Straße",
    )


def main() -> None:
    """Live the week and print it."""
    if "--twisted" in sys.argv:
        twist()
    with open_engine(":memory:", channel=MemoryChannel(fickle), seed=7) as engine:
        publish_basics(engine)
        engine.publish_policy(POLICY)
        engine.bulk_execute(outreach(), [jane(n) for n in range(12)])
        engine.bulk_execute(calling(), [jane(n) for n in range(6)])
        engine.grant_consent("contact_1", "voice")
        engine.suppress(contact_id="contact_3", level="global", reason="asked by phone")
        engine.run_until(10 * 3600)
        engine.ingest_event("email.replied", "contact_4", event_id="a")
        engine.ingest_event("email.bounced", "contact_5", data={"kind": "soft"}, event_id="b")
        engine.ingest_event("email.unsubscribed", "contact_6", event_id="c")
        engine.bulk_pause({"plan_id": "outreach"}, "slowly")
        engine.run_until(DAY)
        engine.bulk_resume({"plan_id": "outreach"}, "on", per_tick=2)
        engine.run_until(20 * DAY)
        digest = hashlib.sha256()
        for row in engine._parts.store.read_log(0, 100_000):
            digest.update(f"{row.position}/{row.stream_id}/{row.version}/{row.name}/".encode())
            digest.update(row.state)
        print(engine.health().position, digest.hexdigest())
        for run in engine.list_runs(limit=100).runs:
            print(run.id, run.status.value, run.version, run.status_reason)


if __name__ == "__main__":
    main()
