"""Engines for tests: on every backend, with every source of chance under the test's control."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dee_es import Engine, EngineConfig, ExecutionPlan, create_plan, steps
from dee_es.adapters.anchors import MemorySigners
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import MasterKey, new_master_key, open_memory_keys, open_sqlite_keys
from dee_es.engine.facade import EngineApi
from dee_es.engine.past.replay_results import Divergence
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.system import FixedWallClock, SeededIds, SeededKeySource

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
BACKENDS: Final = ("memory", "sqlite", "postgres")
ACTOR: Final = "tester"
"""Who acts where a test does not say, whoever runs it."""
DAY: Final = 86_400
"""Ticks of a day at the default resolution."""


def database_url(kind: str, folder: Path, fresh_postgres: Callable[[], str]) -> str:
    """URL of a new, empty database of this kind."""
    if kind == "memory":
        return ":memory:"
    return f"sqlite:///{folder / 'dee.db'}" if kind == "sqlite" else fresh_postgres()


def open_engine(
    url: str,
    *,
    channel: MemoryChannel | None = None,
    seed: int | str | None = None,
    keys: Path | None = None,
    page: int = 500,
) -> Engine:
    """An engine with a manual clock that begins at `EPOCH`.

    With a `seed`, keys, command ids and wall time are the same in every engine of that seed. With
    `keys`, the key store is that file, which other processes may open as well. `page` is how many
    runs are looked at together.
    """
    channel = channel or MemoryChannel()
    config = EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        max_concurrent_sends=1,
        max_runs_per_tick=page,
        certificates="memory://certificates",
        actor=ACTOR,
    )
    signers = MemorySigners(str(seed).encode())
    channels = {"email": channel, "voice": channel}
    if seed is None:
        store = open_memory_keys() if keys is None else open_sqlite_keys(str(keys), master_of(keys))
        return Engine(config, channels=channels, keys=store, signers=signers)
    return Engine(
        config,
        channels=channels,
        wall=FixedWallClock(),
        ids=SeededIds(seed),
        keys=open_memory_keys(SeededKeySource(seed)),
        signers=signers,
    )


def master_of(keys: Path) -> MasterKey:
    """The same master key for everybody who opens a key file of this name, or a copy of it."""
    return new_master_key(SeededKeySource(keys.name))


def publish_basics(engine: Engine) -> None:
    """Publish what the plans of these tests refer to."""
    engine.publish_template("intro", text="Hello {{contact.firstName}}")
    engine.publish_template("follow", text="Still there, {{contact.firstName}}?")
    engine.publish_script("call", greeting="Hello", steps=[])
    engine.publish_sender(address="team@example.com", name="The team")


def people(count: int) -> list[dict[str, str]]:
    """Contacts c00, c01 and so on, whom the plans of these tests can write to."""
    return [
        {"id": f"c{n:02}", "email": f"c{n:02}@example.com", "firstName": "N"} for n in range(count)
    ]


def outreach(plan_id: str = "outreach", **changes: object) -> ExecutionPlan:
    """Email, three days, a branch on reply, a second email, two days, end."""
    values: dict[str, object] = {
        "id": plan_id,
        "name": "Outreach",
        "steps": [
            steps.send_email("intro", "intro", "Hello"),
            steps.wait("pause", {"days": 3}),
            steps.branch(
                "answered",
                [
                    {"when": 'events.hasReply("intro")', "goto": "won"},
                    {"when": "default", "goto": "again"},
                ],
            ),
            steps.end("won", "replied"),
            steps.send_email("again", "follow", "Once more"),
            steps.wait("rest", {"days": 2}),
            steps.end("lost", "silent"),
        ],
        **changes,
    }
    return create_plan(**values)  # type: ignore[arg-type]


def calling(plan_id: str = "calling") -> ExecutionPlan:
    """A call, a branch on its outcome, and an exit condition on an unsubscribe."""
    return create_plan(
        id=plan_id,
        name="Calling",
        steps=[
            steps.send_voice("call", "call"),
            steps.branch(
                "outcome",
                [
                    {"when": 'call.outcome("call") == "answered"', "goto": "talked"},
                    {"when": "default", "goto": "mail"},
                ],
            ),
            steps.end("talked", "talked"),
            steps.send_email("mail", "follow", "We missed you"),
            steps.wait("rest", {"hours": 1}),
            steps.end("done", "mailed"),
        ],
        exit_conditions=[{"when": "contact.unsubscribed", "outcome": "left"}],
    )


def fickle(action: Action, _: SendContext) -> ChannelResult:
    """A channel whose answer depends on the attempt alone: mostly delivered, sometimes not."""
    chance = hashlib.sha256(f"{action.key}/{action.attempt}".encode()).digest()[0]
    if chance < 25:
        return ChannelResult("failed", error="refused", retryable=True)
    if chance < 40:
        return ChannelResult("failed", error="rejected")
    if chance < 50:
        return ChannelResult("unknown", error="lost")
    return ChannelResult("pending" if action.channel == "voice" else "delivered", action.key[:16])


def assert_replays(engine: EngineApi) -> None:
    """Every run in the log is decided again to the same events."""
    found: list[Divergence] = []
    summary = engine.replay_all(on_divergence=found.append)
    assert found == [], found
    assert summary.ok
