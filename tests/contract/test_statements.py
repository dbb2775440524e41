"""What a commit asks of a database: nothing for what its units do not use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Relation, Session, Values
from dee_es.ports import Committed, EventStore, SuppressionGuard, Unit
from tests.support.storage.backends import Backend
from tests.support.storage.events import consent, index_unit, run, unit, use

NAMES = {text: name for name, text in vars(sql).items() if isinstance(text, str)}
PLAIN = [
    "READ_SITUATION",
    "insert heads",
    "insert stored_events",
    "MOVE_LOG_HEAD",
]


class Spy:
    """A `Session` that notes what it is told, and passes it on."""

    def __init__(self, session: Session, noted: list[str]) -> None:
        self._session = session
        self._noted = noted

    def ask(self, text: str, params: Sequence[object] = ()) -> Any:
        self._noted.append(NAMES[text])
        return self._session.ask(text, params)

    def change(self, table: str, text: str, params: Sequence[object]) -> None:
        self._noted.append(NAMES[text])
        self._session.change(table, text, params)

    def __getattr__(self, verb: str) -> Callable[[Relation, Sequence[Values]], None]:
        def write(relation: Relation, rows: Sequence[Values]) -> None:
            self._noted.append(f"{verb} {relation.name}")
            getattr(self._session, verb)(relation, rows)

        return write


Asked = Callable[[Sequence[Unit]], list[str]]


@pytest.fixture
def store(disk_backend: Backend) -> EventStore:
    """An event store with a database behind it."""
    return disk_backend.open()[0]


@pytest.fixture
def asked(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Commits units, all of which fit, and returns the statements that took."""
    database: Any = store.database  # type: ignore[attr-defined]
    plain = database.appending
    noted: list[str] = []

    @contextmanager
    def appending(small: bool = False) -> Iterator[Spy]:
        with plain(small) as session:
            yield Spy(session, noted)

    monkeypatch.setattr(database, "appending", appending)

    def ask(units: Sequence[Unit]) -> list[str]:
        noted.clear()
        assert all(isinstance(outcome, Committed) for outcome in store.commit(units))
        return list(noted)

    return ask


def test_a_plain_commit_asks_for_nothing_more(store: EventStore, asked: Asked) -> None:
    store.commit([index_unit(consents=(consent("jane"),), counters=(use("mail"),))])
    guard = SuppressionGuard(("id:jane",), store.log_head().suppression_epoch)
    assert asked([unit(run(1))]) == PLAIN
    assert asked([unit(run(n)) for n in range(2, 40)]) == PLAIN
    assert asked([unit(run(50), guard=guard)]) == PLAIN, "nothing has changed since the guard"


def test_an_old_guard_costs_one_statement(store: EventStore, asked: Asked) -> None:
    store.commit([index_unit(consents=(consent("jane"),))])
    for number, subjects in enumerate([("id:joan", "email:x"), ("email:x",)]):
        guarded = unit(run(number), guard=SuppressionGuard(subjects, 0))
        assert asked([guarded]) == [*PLAIN[:1], "CHANGED_SINCE", *PLAIN[1:]]


def test_all_counters_are_read_at_once_and_written_at_once(asked: Asked) -> None:
    units = [
        unit(run(n), counters=(use("mail", 99), use(f"contact:{n}", 1), use("call")))
        for n in range(50)
    ]
    assert asked(units) == [*PLAIN[:1], "READ_COUNTERS", "add counters", *PLAIN[1:]]


def test_what_is_only_counted_is_not_read(asked: Asked) -> None:
    assert asked([index_unit(counters=(use("mail"), use("call")))]) == [
        "READ_SITUATION",
        "add counters",
    ]


def test_consents_are_written_at_once(asked: Asked) -> None:
    units = [index_unit(consents=(consent(f"c{n}"), consent("jane"))) for n in range(30)]
    assert asked(units) == ["READ_SITUATION", "upsert consents", "MOVE_LOG_HEAD"]
