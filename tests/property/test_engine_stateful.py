"""Random lives of a small database, lived on memory, SQLite and PostgreSQL at once.

Whatever is commanded, the three logs are the same bytes; and on each, the state folded from the
log, the state kept live and the row of the run list agree, as do totals and a count by hand.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dee_es import Engine, ExecutionPlan
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.runs.run import fold
from dee_es.core.views import RunStatus
from dee_es.engine.queries import row_of
from dee_es.errors import DeeError
from tests.support.by_hand.funnel import assert_funnels_add_up
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    calling,
    database_url,
    fickle,
    open_engine,
    outreach,
    publish_basics,
)

CONTACTS = [f"contact_{n}" for n in range(8)]
# What says nothing about a contact that another event would not say as well.
UNTOLD = ("step.entered", "step.evaluated")
PLANS: dict[str, ExecutionPlan] = {
    "outreach": outreach(),
    "once": outreach("once", reenroll="never"),
    "calling": calling(),
}
EVENTS = [
    ("email.replied", {}),
    ("email.opened", {}),
    ("email.bounced", {"kind": "soft"}),
    ("email.bounced", {"kind": "hard"}),
    ("email.unsubscribed", {}),
    ("email.complained", {}),
    ("call.completed", {"outcome": "answered"}),
    ("call.completed", {"outcome": "busy"}),
    ("call.voicemail", {}),
]
contacts = st.sampled_from(CONTACTS)
statuses = st.sampled_from([status.value for status in RunStatus])


class Lives(RuleBasedStateMachine):
    """Applies each command to all engines and compares what comes of it."""

    fresh_postgres: Callable[[], str]

    @initialize(seed=st.integers(0, 2**32))
    def open(self, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dee-lives-"))
        self.engines: list[Engine] = []
        for kind in BACKENDS:
            url = database_url(kind, self.folder, type(self).fresh_postgres)
            engine = open_engine(url, channel=MemoryChannel(fickle), seed=seed)
            self.engines.append(engine)
            publish_basics(engine)
        self.compared = 0
        self.number = 0

    def everywhere(self, act: Callable[[Engine], Any]) -> Any:
        """Do the same on every engine; they answer or refuse alike."""
        answers = []
        for engine in self.engines:
            try:
                answers.append(act(engine))
            except DeeError as error:
                answers.append((type(error).__name__, str(error)))
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]

    def some_run(self, number: int) -> str | None:
        total = self.engines[0].list_runs(limit=1).total
        if not total:
            return None
        return self.engines[0].list_runs(limit=1, offset=number % total).runs[0].id

    # --- commands ---------------------------------------------------------------------------------

    @rule(
        who=contacts, plan=st.sampled_from(sorted(PLANS)), ahead=st.sampled_from([0, 0, 0, 5, DAY])
    )
    def execute(self, who: str, plan: str, ahead: int) -> None:
        scale = self.engines[0].now()
        start = None
        if ahead:
            start = type(scale)(scale.tick + ahead, scale.resolution_ms, scale.epoch).now
        # One contact has no first name, so that its templates fail.
        contact: dict[str, Any] = {"id": who, "email": f"{who}@example.com", "phone": "+15550100"}
        if who != CONTACTS[0]:
            contact["firstName"] = who
        self.everywhere(lambda engine: engine.execute(PLANS[plan], contact, None, start))

    @rule(who=st.lists(contacts, max_size=10), plan=st.sampled_from(sorted(PLANS)))
    def bulk(self, who: list[str], plan: str) -> None:
        given = [{"id": each, "email": f"{each}@example.com", "firstName": "x"} for each in who]
        result = self.everywhere(
            lambda engine: engine.bulk_execute(PLANS[plan], given, batch_size=3)
        )
        assert result.created + result.skipped + result.errors == len(given)

    @rule(
        number=st.integers(0, 50),
        what=st.sampled_from(["pause", "resume", "resume", "cancel", "retry", "resolve"]),
        keep=st.sampled_from(["deadline", "remaining"]),
        outcome=st.sampled_from(["delivered", "failed", "resend"]),
    )
    def command(self, number: int, what: str, keep: Any, outcome: Any) -> None:
        run = self.some_run(number)
        if run is None:
            return
        acts: dict[str, Callable[[Engine], Any]] = {
            "pause": lambda engine: engine.pause_run(run, "why not", keep=keep),
            "resume": lambda engine: engine.resume_run(run),
            "cancel": lambda engine: engine.cancel_run(run, "enough"),
            "retry": lambda engine: engine.retry_run(run, "again"),
            "resolve": lambda engine: engine.resolve_step(run, outcome, reason="seen it"),
        }
        self.everywhere(acts[what])

    @rule(status=statuses, plan=st.sampled_from(sorted(PLANS)), dry=st.booleans())
    def bulk_cancel(self, status: str, plan: str, dry: bool) -> None:
        chosen = {"status": status, "plan_id": plan}
        self.everywhere(lambda engine: engine.bulk_cancel(chosen, "clean up", dry_run=dry))

    @rule(who=contacts, event=st.sampled_from(EVENTS), again=st.booleans(), named=st.booleans())
    def channel_event(
        self, who: str, event: tuple[str, dict[str, str]], again: bool, named: bool
    ) -> None:
        kind, data = event
        self.number += 0 if again else 1
        event_id = f"event_{self.number}"
        step = ("call" if kind.startswith("call") else "intro") if named else None
        self.everywhere(
            lambda engine: engine.ingest_event(kind, who, None, step, data, event_id=event_id)
        )

    @rule(who=contacts, by_address=st.booleans(), on=st.booleans(), email_only=st.booleans())
    def suppression(self, who: str, by_address: bool, on: bool, email_only: bool) -> None:
        scope: dict[str, Any] = {"level": "channel", "channel": "email"} if email_only else {}
        about: dict[str, Any] = (
            {"email": f"{who}@example.com"} if by_address else {"contact_id": who}
        )
        self.everywhere(
            lambda engine: (engine.suppress if on else engine.unsuppress)(**about, **scope)
        )

    # --- time -------------------------------------------------------------------------------------

    @rule(ticks=st.sampled_from([0, 1, 2, 60, 3600, DAY, 3 * DAY]))
    def run_on(self, ticks: int) -> None:
        self.everywhere(lambda engine: engine.run_until(engine.now().tick + ticks))

    @rule()
    def tick(self) -> None:
        self.everywhere(lambda engine: engine.tick())

    # --- what must hold ---------------------------------------------------------------------------

    @rule()
    def logs_are_equal(self) -> None:
        logs = [engine._parts.store.read_log(self.compared, 100_000) for engine in self.engines]
        assert all(log == logs[0] for log in logs)
        if logs[0]:
            assert [row.position for row in logs[0]] == list(
                range(self.compared + 1, self.compared + len(logs[0]) + 1)
            )
            self.compared = logs[0][-1].position

    @rule()
    def everything_agrees(self) -> None:
        for engine in self.engines:
            check(engine)

    @invariant()
    def the_funnel_adds_up(self) -> None:
        if hasattr(self, "engines"):
            assert_funnels_add_up(self.engines[0], PLANS)

    @rule()
    def funnels_add_up(self) -> None:
        for engine in self.engines:
            assert_funnels_add_up(engine, PLANS)

    @rule(who=contacts, ago=st.sampled_from([0, 1, 60, DAY]))
    def contacts_have_their_past(self, who: str, ago: int) -> None:
        """As of any tick a contact is what its runs and its own stream say."""
        tick = max(0, self.engines[0].now().tick - ago)
        seen = [engine.contact_at(who, tick=tick) for engine in self.engines]
        assert all(each == seen[0] for each in seen)
        logs = [entry for entry in self.engines[0].get_contact_logs(who) if entry.tick <= tick]
        runs = {entry.stream for entry in logs if entry.stream.startswith("run_")}
        assert {run.id for run in seen[0].runs} == runs
        for run in seen[0].runs:
            assert run == self.engines[0].run_at(run.id, tick=tick).run
        told = [entry for entry in logs if entry.action not in UNTOLD]
        assert [(each.tick, each.action) for each in seen[0].entries] == [
            (entry.tick, entry.action) for entry in told
        ]

    def teardown(self) -> None:
        if not hasattr(self, "engines"):
            return
        try:
            self.logs_are_equal()
            self.everything_agrees()
            for engine in self.engines:
                assert engine.audit.verify_indexes().differences == ()
                verdict = engine.verify_log()
                assert verdict.valid, verdict.problems
            self.funnels_add_up()
            # The logs are equal, so that one replay stands for all.
            assert_replays(self.engines[0])
        finally:
            for engine in self.engines:
                engine.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def check(engine: Engine) -> None:
    """State from the log = state kept live = the run list's row; totals = a count by hand."""
    store, journal = engine._parts.store, engine._journal
    page = engine.list_runs(limit=10_000)
    rows = {row.run_id: row for row in engine._queries._rows(_nothing(engine), 10_000, 0, None)[0]}
    heads = store.heads(list(rows))
    live = engine._runs.load_many(list(rows))
    assert [run.ordinal for run in page.runs] == list(range(len(rows), 0, -1))
    for run_id, row in rows.items():
        state = fold(journal.open(store.read_stream(run_id)))
        assert state is not None
        assert live[run_id].state == state
        assert row == row_of(state, heads[run_id].ordinal)
        assert heads[run_id].due_tick == state.due_tick
        assert heads[run_id].ended == state.status.ended
        assert engine.get_run(run_id) == page.runs[len(rows) - row.ordinal]
    by_hand = Counter((row.plan_id, row.status) for row in rows.values())
    assert page.total == len(rows)
    for status in RunStatus:
        found = engine.list_runs(status=status, limit=1).total
        assert found == sum(n for (_, s), n in by_hand.items() if s == status.value)
        for plan in PLANS:
            found = engine.list_runs(status=status, plan_id=plan, limit=1).total
            assert found == by_hand[plan, status.value]


def _nothing(engine: Engine) -> Any:
    return engine._queries.filter()


@pytest.fixture
def machine(fresh_postgres: Callable[[], str]) -> type[Lives]:
    Lives.fresh_postgres = staticmethod(fresh_postgres)  # type: ignore[assignment]
    return Lives


def test_three_backends_live_the_same_lives(machine: type[Lives]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count(8, 200),
            stateful_step_count=count(60, 500),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_machine_would_notice_a_wrong_count(fresh_postgres: Callable[[], str]) -> None:
    with open_engine(fresh_postgres(), seed=1) as engine:
        publish_basics(engine)
        engine.execute(PLANS["outreach"], {"id": "a", "email": "a@example.com"})
        table = engine._parts.run_list.table
        with engine._parts.views.transaction() as tx:
            tx.add_counts(table, {("", "active", -1): 1})
        with pytest.raises(AssertionError):
            check(engine)
