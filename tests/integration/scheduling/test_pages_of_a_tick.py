"""The pages of a tick overlap: one is decided while the database takes in the one before. What is
in the log, and what is sent, is as if each were over before the next."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.events import StepDispatched
from dee_es.engine import transact
from dee_es.engine.scheduling import leases
from dee_es.errors import (
    ChannelFailed,
    ConcurrencyConflict,
    DeeError,
    MasterKeyRotated,
    StoreUnavailable,
)
from dee_es.ports import Action, ChannelResult, Conflict, Lease, SendContext, beside
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    database_url,
    fickle,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.waiting import PATIENCE_S

PAGE = 4
COUNT = 18
LIMIT = 7


def lived(url: str, page: int = PAGE) -> list[tuple[Any, ...]]:
    """The log of runs under a limit that bites, by a channel that fails now and then."""
    with open_engine(url, seed=3, page=page, channel=MemoryChannel(fickle)) as engine:
        publish_basics(engine)
        engine.publish_policy({"limits": {"perDay": {"contact": 2, "channel": {"email": LIMIT}}}})
        engine.bulk_execute(outreach(), people(COUNT))
        engine.run_until(5 * DAY)
        assert_replays(engine)
        store = engine._parts.store
        entries = store.read_entries(0, store.log_head().position)
        assert len(entries) > 150
        return [tuple(entry) for entry in entries]


@pytest.mark.parametrize("page", [1, PAGE, 500])
def test_the_log_is_the_same_on_every_backend(
    page: int, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """Where nothing ever waits, a page is in the log before the next one is decided."""
    logs = [lived(database_url(kind, tmp_path, fresh_postgres), page) for kind in BACKENDS]
    assert logs[0] == logs[1] == logs[2]


@pytest.mark.parametrize("seed", range(4))
def test_when_the_database_answers_changes_no_byte(
    seed: int, fresh_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, go_on = random.Random(seed), beside.go_on
    monkeypatch.setattr(beside, "go_on", lambda: go_on() if chance.random() < seed / 3 else None)
    assert lived(fresh_postgres()) == lived(":memory:")


def caught_up(url: str) -> list[tuple[Any, ...]]:
    """The log of runs some of which are late when the worker comes to them."""
    with open_engine(url, seed=3, page=PAGE, channel=MemoryChannel(fickle)) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), people(COUNT)[: COUNT // 2])
        engine.clock.move_to(9)
        engine.bulk_execute(outreach(), people(COUNT)[COUNT // 2 :])
        engine.tick()
        store = engine._parts.store
        return [tuple(entry) for entry in store.read_entries(0, store.log_head().position)]


@pytest.mark.parametrize("often", [0, 0.3, 1])
def test_how_fast_a_lag_is_committed_changes_no_byte(
    often: float, fresh_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its outcome is recorded, a run that sends late is due among those that are not late."""
    chance, go_on = random.Random(1), beside.go_on
    monkeypatch.setattr(beside, "go_on", lambda: go_on() if chance.random() < often else None)
    assert caught_up(fresh_postgres()) == caught_up(":memory:")


class Scene:
    """Runs in pages, and a channel that counts what it sends."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.sent: list[str] = []
        self.engine: Engine = open_engine(
            url, channel=MemoryChannel(self._answer), page=PAGE, keys=tmp_path / "keys.db"
        )
        publish_basics(self.engine)
        self.during: Callable[[], object] = lambda: None

    def _answer(self, action: Action, _: SendContext) -> ChannelResult:
        self.sent.append(action.run_id)
        self.during()
        return ChannelResult("delivered", action.key[:16])

    def enroll(self) -> list[str]:
        self.engine.bulk_execute(outreach(), people(COUNT))
        return sorted(run.id for run in self.engine.list_runs(limit=COUNT).runs)

    def unsubscribes_during_the_first(self, run_id: str) -> None:
        """While the first message is sent, the contact of this run unsubscribes."""

        def unsubscribe() -> None:
            self.during = lambda: None
            self.engine.suppress(contact_id=self.engine.get_run(run_id).contact_id, reason="asked")

        self.during = unsubscribe

    def actions(self, run_id: str) -> list[str]:
        return [entry.action for entry in self.engine.get_timeline(run_id)]

    def spent(self) -> list[int]:
        """What was spent of the budget, as each message's intent says, in order of the log."""
        store = self.engine._parts.store
        events = self.engine._journal.open_public(store.read_log(0, 10_000))
        intents = [each.event for each in events if isinstance(each.event, StepDispatched)]
        return [intent.reads["budget"] for intent in intents]


@pytest.fixture(params=BACKENDS)
def scene(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]) -> Any:
    made = Scene(database_url(request.param, tmp_path, fresh_postgres), tmp_path)
    with made.engine:
        yield made


def budget_of(amount: int) -> dict[str, Any]:
    """One unit of it for each message."""
    return {"amount": amount, "currency": "EUR", "costPerSend": {"email": 1}, "per": "total"}


def at_the(nth: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have the decision about the `nth` run from now on, counted from 1, raise this."""
    decision, left = transact.decision, [nth]

    def deciding(*given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise error
        return decision(*given)

    monkeypatch.setattr(transact, "decision", deciding)


@pytest.mark.parametrize("count", [PAGE - 1, PAGE])
def test_a_page_is_worked_on_in_the_order_of_its_run_ids(scene: Scene, count: int) -> None:
    """However late each of them is: who is due first comes into an earlier page, and no more."""
    other, first, *others = people(count)
    early = scene.engine.execute(outreach(), first).id
    scene.engine.clock.move_to(9)
    late = [scene.engine.execute(outreach(), each).id for each in (other, *others)]
    assert early > min(late), "the first that is due is not the first by its id"
    scene.engine.tick()
    assert scene.sent == sorted([early, *late])


def test_all_that_a_tick_does_is_of_its_tick(scene: Scene) -> None:
    """However far the clock goes on meanwhile."""
    runs = scene.enroll()
    scene.during = lambda: scene.engine.clock.move_to(5)
    scene.engine.tick()
    assert scene.sent == runs
    ticks = {entry.tick for run in runs for entry in scene.engine.get_timeline(run)}
    assert ticks == {0}


def test_a_limit_is_reached_and_not_passed(scene: Scene) -> None:
    scene.engine.publish_policy({"limits": {"perDay": {"channel": {"email": LIMIT}}}})
    runs = scene.enroll()
    scene.engine.tick()
    assert scene.sent == runs[:LIMIT], "in the order in which they are looked at"
    scene.engine.run_until(2 * DAY + 10)
    assert sorted(scene.sent) == runs
    assert_replays(scene.engine)


@pytest.mark.parametrize("most", [PAGE, PAGE + 2])
def test_a_page_that_is_decided_anew_keeps_its_place(scene: Scene, most: int) -> None:
    """What a failed send gives back to the budget is there for the next of all that are due, also
    if it had been refused for what was spent before."""
    scene.engine.publish_policy({"budget": budget_of(most)})
    runs = scene.enroll()

    def fail() -> None:
        scene.during = lambda: None
        raise ChannelFailed("not this one")

    scene.during = fail
    scene.engine.tick()
    assert scene.sent == runs[: most + 1]
    assert scene.spent() == [index // PAGE * PAGE - (index >= PAGE) for index in range(most + 1)]


def test_what_is_given_back_by_who_was_paused_meanwhile_is_there_as_well(scene: Scene) -> None:
    """Its outcome is refused at first, since the run has moved."""
    scene.engine.publish_policy({"budget": budget_of(PAGE)})
    runs = scene.enroll()

    def pause_and_fail() -> None:
        scene.during = lambda: None
        scene.engine.pause_run(runs[0])
        raise ChannelFailed("not this one")

    scene.during = pause_and_fail
    scene.engine.tick()
    assert scene.sent == runs[: PAGE + 1]
    assert_replays(scene.engine)


def test_what_is_on_its_way_into_the_log_is_counted(scene: Scene) -> None:
    """Each message says how many went out before its page."""
    scene.engine.publish_policy({"budget": budget_of(COUNT)})
    scene.enroll()
    scene.engine.tick()
    assert scene.spent() == [index // PAGE * PAGE for index in range(COUNT)]


def test_what_did_not_come_about_is_not_counted(scene: Scene) -> None:
    """Of the second page one unsubscribes: the third was decided as if all of it were sent."""
    scene.engine.publish_policy({"limits": {"perDay": {"channel": {"email": 2 * PAGE}}}})
    runs = scene.enroll()
    late = runs[PAGE + 1]
    scene.unsubscribes_during_the_first(late)
    scene.engine.tick()
    assert scene.sent == [run for run in runs if run != late][: 2 * PAGE]
    assert_replays(scene.engine)


def test_nobody_is_sent_to_who_unsubscribed_while_the_page_before_was_sent(scene: Scene) -> None:
    """By then it had been decided to send."""
    runs = scene.enroll()
    late = runs[PAGE + 1]
    scene.unsubscribes_during_the_first(late)
    scene.engine.tick()
    # In order: whoever came behind the one that was refused is not passed over.
    assert scene.sent == [run for run in runs if run != late]
    assert "step.skipped" in scene.actions(late)
    assert_replays(scene.engine)


def test_nobody_is_sent_to_who_unsubscribed_while_that_was_looked_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just behind the answer that nothing is known of the address; no run is told of it by then."""
    runs, store = scene.enroll(), scene.engine._parts.store
    mailboxes = [f"{scene.engine.get_run(run).contact_id}@example.com" for run in runs[:2]]
    scene.engine.suppress(email=mailboxes[0], reason="asked before")
    suppressions = store.suppressions

    def looking(*given: Any) -> Any:
        patch.undo()
        found = suppressions(*given)
        scene.engine.suppress(email=mailboxes[1], reason="asked meanwhile")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "suppressions", looking)
        scene.engine.tick()
    assert sorted(scene.sent) == runs[2:]
    assert "step.skipped" in scene.actions(runs[1])
    assert_replays(scene.engine)


def test_nobody_is_sent_to_who_took_the_consent_back_while_that_was_looked_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.engine.publish_policy({"consent": {"required": ["email"]}})
    runs, store = scene.enroll()[:2], scene.engine._parts.store
    contacts = [scene.engine.get_run(run).contact_id for run in runs]
    for contact in contacts:
        scene.engine.grant_consent(contact, "email")
    consents = store.consents

    def looking(*given: Any) -> Any:
        patch.undo()
        found = consents(*given)
        scene.engine.revoke_consent(contacts[1], "email")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "consents", looking)
        scene.engine.tick()
    assert scene.sent == runs[:1]
    assert "step.skipped" in scene.actions(runs[1])
    assert_replays(scene.engine)


@pytest.mark.parametrize("error", [StoreUnavailable, ConcurrencyConflict, MasterKeyRotated])
def test_what_was_begun_is_sent_if_the_next_page_cannot_be_decided(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: type[DeeError]
) -> None:
    """What is wrong with all of them ends the tick, though it be over in a moment."""
    runs = scene.enroll()
    with monkeypatch.context() as patch:
        at_the(PAGE + 2, patch, error("gone for a moment"))
        with pytest.raises(error):
            scene.engine.tick()
    assert scene.sent == runs[:PAGE]
    scene.engine.tick()
    assert scene.sent == runs
    assert_replays(scene.engine)


def test_what_went_wrong_first_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page cannot be decided, and then the one before it is not committed either."""
    runs, store = scene.enroll(), scene.engine._parts.store
    commit = store.commit

    def lost(*units: Any, lease: Lease | None, **more: Any) -> Any:
        if lease is not None:
            raise StoreUnavailable("the connection was lost")
        return commit(*units, lease=lease, **more)

    with monkeypatch.context() as patch:
        at_the(PAGE + 2, patch, MasterKeyRotated("another has it now"))
        patch.setattr(store, "commit", lost)
        with pytest.raises(MasterKeyRotated):
            scene.engine.tick()
    assert scene.sent == []
    scene.engine.tick()
    assert scene.sent == runs


def test_what_was_not_begun_waits_if_the_next_page_cannot_be_looked_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was only decided is in nobody's way, and is decided again by the next tick."""
    runs, store = scene.enroll(), scene.engine._parts.store
    due, looks = store.due, []

    def looking(*given: Any) -> Any:
        looks.append(given)
        if len(looks) == 2:
            raise StoreUnavailable("gone for a moment")
        return due(*given)

    with monkeypatch.context() as patch:
        patch.setattr(store, "due", looking)
        with pytest.raises(StoreUnavailable):
            scene.engine.tick()
    assert scene.sent == []
    assert not any("step.dispatched" in scene.actions(run) for run in runs)
    scene.engine.tick()
    assert scene.sent == runs
    assert_replays(scene.engine)


def test_whoever_interrupts_it_sends_nothing_more_and_loses_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the second page is decided, and the first is on its way into the log."""
    runs = scene.enroll()
    with monkeypatch.context() as patch:
        at_the(PAGE + 2, patch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            scene.engine.tick()
    assert scene.sent == []
    assert all("error.retried" in scene.actions(run) for run in runs[:PAGE])
    scene.engine.run_until(120)
    assert sorted(scene.sent) == runs, "each was sent once"
    assert {run.status.value for run in scene.engine.list_runs(limit=COUNT).runs} == {"waiting"}
    assert_replays(scene.engine)


def test_a_bad_run_holds_up_nobody_beside_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = scene.enroll()
    decision, bad = transact.decision, runs[PAGE + 1]

    def deciding(materials: Any, state: Any, command: Any) -> Any:
        if state.run_id == bad:
            raise ValueError("cannot be decided")
        return decision(materials, state, command)

    with monkeypatch.context() as patch:
        patch.setattr(transact, "decision", deciding)
        with pytest.raises(ValueError, match="cannot be decided"):
            scene.engine.tick()
    assert scene.sent == [run for run in runs if run != bad]
    scene.engine.tick()
    assert scene.sent[-1] == bad
    assert_replays(scene.engine)


class Patient(threading.Event):
    """Stops a worker at its first pause, and notes whether anything of it was under way then."""

    under_way: bool | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.under_way = beside.takes_turns()
        self.set()
        return super().wait(timeout)


def test_a_worker_that_pauses_keeps_no_other_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away while the first page's outcomes are on their way into the log, under the
    append lock."""
    runs, store = scene.enroll(), scene.engine._parts.store
    due, looks = store.due, []

    def looking(*given: Any) -> Any:
        looks.append(given)
        if len(looks) == 3:
            raise StoreUnavailable("gone for a moment")
        return due(*given)

    stop = Patient()
    with monkeypatch.context() as patch:
        # No answer comes before it is waited for.
        patch.setattr(beside, "go_on", lambda: None)
        patch.setattr(store, "due", looking)
        scene.engine.worker(stop)
    assert scene.sent == runs[:PAGE]
    assert all("step.executed" in scene.actions(run) for run in runs[:PAGE])
    assert stop.under_way is False
    scene.engine.run_until(120)
    assert sorted(scene.sent) == runs, "each was sent once"


class Crossing:
    """Behind the first conflict, the lease is renewed while outcomes are on their way into the log:
    the renewal waits for them, as it does for the append lock."""

    def __init__(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        self.over = False
        self._refused = self._met = False
        self._renewing, self._recorded = threading.Event(), threading.Event()
        self._answer, self._answered = socket.socketpair()
        self._store = {name: getattr(store, name) for name in ("commit", "due", "acquire_lease")}
        patch.setattr(leases, "RENEW_S", 0.01)
        # No answer comes before it is waited for.
        patch.setattr(beside, "go_on", lambda: None)
        patch.setattr(store, "commit", self._commit)
        patch.setattr(store, "due", self._due)
        patch.setattr(store, "acquire_lease", self._acquire_lease)

    def _commit(self, *units: Any, lease: Lease | None, **more: Any) -> list[Any]:
        records = self._refused and lease is None and not self._met
        if records:
            self._met = True
            assert self._renewing.wait(PATIENCE_S)
            beside.wait_for(beside.Awaited(self._answered.fileno(), reads=True, writes=False))
        results: list[Any] = self._store["commit"](*units, lease=lease, **more)
        if records:
            self._recorded.set()
        self._refused = self._refused or any(isinstance(each, Conflict) for each in results)
        return results

    def _due(self, *given: Any) -> Any:
        if self._met:
            self._answer.send(b".")
        return self._store["due"](*given)

    def _acquire_lease(self, *given: Any) -> Any:
        renews = threading.current_thread().name == "dee-lease"
        if renews and self._met and not self._renewing.is_set():
            self._renewing.set()
            self.over = self._recorded.wait(5)
        return self._store["acquire_lease"](*given)

    def close(self) -> None:
        """Nothing is waited for any more."""
        self._answer.close()
        self._answered.close()


def test_a_renewal_of_the_lease_never_waits_for_what_waits_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the tick's own thread takes the recording on, and that needs the lease."""
    runs = scene.enroll()
    paused = runs[PAGE + 1]

    def pause() -> None:
        scene.during = lambda: None
        scene.engine.pause_run(paused)

    scene.during = pause
    crossing = Crossing(scene.engine._parts.store, monkeypatch)
    scene.engine.tick()
    crossing.close()
    assert crossing.over, "the tick waited for the lease, and the lease for what it records"
    assert sorted(scene.sent) == [run for run in runs if run != paused]
    assert_replays(scene.engine)
