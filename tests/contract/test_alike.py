"""All backends decide alike, whatever is committed and however it is asked for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dee_es.core.events import RecordedEvent
from dee_es.ports import (
    Committed,
    Conflict,
    EventStore,
    StreamAppend,
    Suppression,
    SuppressionGuard,
    TableTransaction,
    Unit,
)
from tests.support.counts import count
from tests.support.storage.backends import Backend
from tests.support.storage.events import append, consent, run, use

STREAMS = [run(1), run(2), run(3), "contact:a", "plan:x"]
CONTACTS = ["a", "b", "c"]
SUBJECTS = ["id:a", "id:b", "email:x", "email:y"]
EVENT_IDS = [f"e{number}" for number in range(30)]
COUNTERS = [(key, slot) for key in "pq" for slot in range(2)]
STEPS = 60


class Chance:
    """Units of every kind, most of which fit and some of which do not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def units(self, versions: dict[str, int], epoch: int) -> list[Unit]:
        """What one commit is asked for."""
        return [self._unit(dict(versions), epoch) for _ in range(self._of(1, 1, 2, 4, 25))]

    def _of(self, *values: Any) -> Any:
        return self.random.choice(values)

    def _few(self, share: float, make: Callable[[], Any]) -> tuple[Any, ...]:
        if self.random.random() > share:
            return ()
        return tuple(make() for _ in range(self._of(1, 2)))

    def _append(self, versions: dict[str, int]) -> StreamAppend:
        stream = self._of(*STREAMS, run(self.random.randrange(4, 60)))
        expected = max(0, versions.get(stream, 0) + self._of(0, 0, 0, 0, 0, -1, 1))
        events = self._of(0, 1, 1, 2, 3, 20)
        versions[stream] = expected + events
        tick, due = self.random.randrange(6), self._of(None, 3, 9)
        return append(
            stream, expected, events, tick=tick, due_tick=due, ended=self._of(True, False)
        )

    def _suppression(self) -> Suppression:
        level, scope = self._of(("global", ""), ("channel", "email"))
        return Suppression(self._of(*SUBJECTS), level, scope, self._of(*CONTACTS))

    def _unit(self, versions: dict[str, int], epoch: int) -> Unit:
        of, few = self._of, self._few
        appends = tuple(self._append(versions) for _ in range(of(0, 1, 1, 1, 2, 3)))
        guard = SuppressionGuard(
            tuple(self.random.sample(SUBJECTS, 2)), max(0, epoch - self.random.randrange(4))
        )
        return Unit(
            appends,
            min_tick=of(None, None, 3, 7),
            contact_keys=few(0.4, lambda: (of(*CONTACTS), of(b"k" * 16, b"k" * 16, b"l" * 16))),
            suppress=few(0.3, self._suppression),
            unsuppress=few(0.3, self._suppression),
            event_ids=few(0.3, lambda: of(*EVENT_IDS)),
            guard=of(None, guard),
            consents=few(
                0.3,
                lambda: consent(
                    of(*CONTACTS), of("email", "sms"), of("granted", "revoked"), 2, of(None, 7)
                ),
            ),
            counters=few(
                0.3, lambda: use(of("p", "q"), of(None, 3, 50), add=of(0, 1, 2), slot=of(0, 1))
            ),
        )


def _ask(store: EventStore, units: Sequence[Unit], decide: bool) -> list[object]:
    """What the units led to, and what was told of it in the transaction."""
    told: list[object] = []

    def inline(_: TableTransaction, head: int, events: Sequence[RecordedEvent]) -> None:
        told.append((head, list(events)))

    if decide:
        streams = [append.stream_id for unit in units for append in unit.appends]
        contacts = [contact for unit in units for contact, _ in unit.contact_keys]
        outcomes = store.decide(streams, contacts, lambda _: units, inline=inline)
    else:
        outcomes = store.commit(units, inline=inline)
    return [outcomes, told]


def _held(store: EventStore) -> list[object]:
    streams = store.stream_ids("")
    return [
        store.log_head(),
        store.read_log(0, 100_000),
        store.heads(streams),
        store.situation(streams, CONTACTS),
        sorted(store.suppressions(SUBJECTS), key=str),
        store.consents(CONTACTS),
        store.counters(COUNTERS),
        store.known_event_ids(EVENT_IDS),
        store.due(100, 1_000),
    ]


@pytest.mark.parametrize("seed", range(count(2, 40)))
def test_all_backends_decide_alike(
    seed: int, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    backends = [
        Backend("memory", ""),
        Backend("sqlite", str(tmp_path / "dee.db")),
        Backend("postgres", fresh_postgres()),
    ]
    stores = [backend.open()[0] for backend in backends]
    chance, seen = Chance(seed), Counter[str]()
    for step in range(STEPS):
        heads = stores[0].heads(stores[0].stream_ids(""))
        versions = {stream: head.version for stream, head in heads.items()}
        units = chance.units(versions, stores[0].log_head().suppression_epoch)
        decide = chance.random.random() < 0.6
        first, *others = [_ask(store, units, decide) for store in stores]
        assert all(other == first for other in others), f"step {step}"
        outcomes: Any = first[0]
        seen.update(each.kind for each in outcomes if isinstance(each, Conflict))
        seen["committed"] += sum(isinstance(each, Committed) for each in outcomes)
        if step % 20 == 19:
            assert _held(stores[1]) == _held(stores[0]), f"step {step}"
            assert _held(stores[2]) == _held(stores[0]), f"step {step}"
    kinds = {"committed", "version", "clock", "key", "suppression", "event_id", "limit"}
    assert seen.keys() == kinds, "not every outcome was tried"
    for backend in backends:
        backend.close()
