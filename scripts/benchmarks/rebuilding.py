"""How fast a projection is built anew, beside what a library and a single statement take for it.

All three make the same run list, counts and indexes included, out of the same events: ours from
the log as it is stored (sealed, as JSON in bytes), with its comparison and the swap; the
eventsourcing library's own `ProjectionRunner` from the same log, with the same fold, one event a
transaction as it works; and one set-based statement from the same log as well, which neither checks
nor compares anything. From a copy of the events as jsonb, which nobody keeps, it is quicker still.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg

from dee_es import Contact, Engine
from dee_es.core.projection import Build
from projections import RUN_LIST
from scripts.benchmarks import peers
from scripts.benchmarks.figures import Figure, Finding, LeftOut, percentile
from scripts.benchmarks.harness import alone, beside, config_of, engine_on, people, plan, settle

EVENTS_OF_A_RUN = 14
LIST_BAR, TRAIL_BAR = 60_000, 60_000
STOCK_BAR = 50
"""Times as fast as the library's runner."""
SET_BAR = 60
"""Per cent of what one statement reaches."""
MEMORY_BAR = 150
LATENCY_BAR = 3
"""Times the idle value that the 99th percentile of `execute` may reach meanwhile."""
STOCK_EVENTS = 10_000
CALLS = 1_000
THROTTLE = 0.25


def measure(url: str, folder: Path, events: int, repeats: int) -> Iterator[Finding]:
    """Rates, ratios, memory and latency, on a log of about so many events."""
    small = max(events // 10, 1)
    for name, size in (("small", small), ("rebuilds", events)):
        with engine_on(url, folder, name) as engine:
            yield fill(engine, size)
        settle(url, name)
        key = "peak memory of a rebuild" + (", a tenth of the events" if size < events else "")
        yield _memory(url, folder, name, size, key)
    ours = yield from _rate(url, folder, "run_list", LIST_BAR, repeats)
    yield from _rate(url, folder, "audit_trail", TRAIL_BAR, repeats)
    with Engine(config_of(url, folder, "rebuilds")) as engine:
        if not url.startswith("sqlite"):
            yield from _beside_others(beside(url, "rebuilds"), engine, ours)
        yield from _latency(url, folder, engine)


def fill(engine: Engine, events: int) -> Figure:
    """Live through as many runs as make about so many events."""
    start = time.perf_counter()
    engine.bulk_execute(plan("rebuilt"), people(events // EVENTS_OF_A_RUN), batch_size=5_000)
    engine.run_until(1)
    engine.run_until_idle()
    engine.list_runs(limit=1)
    written = engine.health().position
    rate = written / (time.perf_counter() - start)
    return Figure(f"filled with {written:,} events", rate, "events/s", key="filled with events")


def _rate(
    url: str, folder: Path, name: str, bar: int, repeats: int
) -> Generator[Figure, None, float]:
    rates = alone(_rebuilt, url, folder, name, repeats)
    rate = statistics.median(rates)
    spread = (min(rates), max(rates))
    yield Figure(f"{name} rebuilt, compared and swapped", rate, "events/s", spread, bar)
    return rate


def _rebuilt(url: str, folder: Path, name: str, repeats: int) -> list[float]:
    rates = []
    with Engine(config_of(url, folder, "rebuilds")) as engine:
        if name == "audit_trail":
            # Nobody has asked for it yet, so that there is none to compare with.
            engine.projections.rebuild(name)
        for _ in range(repeats):
            start = time.perf_counter()
            done = engine.projections.rebuild(name)
            rates.append(done.events / (time.perf_counter() - start))
            engine.projections.drop(name)
    return rates


# --- others ---------------------------------------------------------------------------------------


def _beside_others(database: str, engine: Engine, ours: float) -> Iterator[Finding]:
    whole, copied = _set_based(database, engine)
    yield Figure("one statement over the log", whole, "events/s")
    yield Figure("run_list rebuilt to one statement", 100 * ours / whole, "%", None, SET_BAR)
    yield Figure("one statement over the events as jsonb", copied, "events/s")
    yield Figure("run_list rebuilt to one statement over jsonb", 100 * ours / copied, "%")
    if why := peers.why_spared():
        yield LeftOut("the library's ProjectionRunner", why)
        return
    size = min(STOCK_EVENTS, engine.health().position // 20)
    from scripts.benchmarks.peers import stock_projection

    stock = stock_projection.rate(database, engine, size)
    yield Figure(
        f"the library's ProjectionRunner, {size:,} events",
        stock,
        "events/s",
        key="the library's ProjectionRunner",
    )
    yield Figure("run_list rebuilt to the library's", ours / stock, "times", None, STOCK_BAR)


_JSONB = """
CREATE TABLE events_jsonb (
    position bigint, run_id text COLLATE "C", version bigint, name text, tick bigint, data jsonb
)
"""
# What a stored event begins with: four letters, two checksums, and the length of its public part.
_LOG = """(
    SELECT position, run_id, version, name, (stored->'meta'->>'tick')::bigint AS tick,
        stored->'data' AS data
    FROM (
        SELECT notification_id AS position, originator_id AS run_id,
            originator_version AS version, topic AS name,
            convert_from(substring(state FROM 73 FOR
                ('x' || encode(substring(state FROM 69 FOR 4), 'hex'))::bit(32)::int),
                'UTF8')::jsonb AS stored
        FROM stored_events
        WHERE originator_id >= 'run_' AND originator_id < 'run`'
        OFFSET 0
    ) AS read
)"""
_SET = """
INSERT INTO {table}
SELECT run_id, row_number() OVER (ORDER BY first), plan_id, plan_version, contact_id, enrollment,
    (ARRAY['pending', 'active', 'waiting', 'paused', 'completed', 'failed', 'cancelled'])
        [state + 1],
    CASE WHEN state IN (4, 6) THEN NULL ELSE step END, done,
    CASE WHEN state IN (4, 6) THEN 0 ELSE remaining END,
    created, start_tick, latest, CASE WHEN state IN (4, 6) THEN latest END, outcome,
    reason, CASE WHEN state = 2 THEN until END, last
FROM (
    SELECT run_id, min(position) AS first, max(version) AS last, max(tick) AS latest,
        min(tick) AS created,
        max(data->>'plan_id') FILTER (WHERE version = 1) AS plan_id,
        max((data->>'plan_version')::bigint) FILTER (WHERE version = 1) AS plan_version,
        max(data->>'contact_id') FILTER (WHERE version = 1) AS contact_id,
        max((data->>'enrollment')::bigint) FILTER (WHERE version = 1) AS enrollment,
        max((data->>'start_tick')::bigint) FILTER (WHERE version = 1) AS start_tick,
        max(version * 8 + CASE name
            WHEN 'RunScheduled' THEN 0 WHEN 'RunStarted' THEN 1 WHEN 'StepEntered' THEN 1
            WHEN 'StepDispatched' THEN 1 WHEN 'StepCompleted' THEN 1 WHEN 'WaitCompleted' THEN 1
            WHEN 'BranchEvaluated' THEN 1 WHEN 'StepSkipped' THEN 1 WHEN 'RunResumed' THEN 1
            WHEN 'WaitStarted' THEN 2 WHEN 'StepDeferred' THEN 2 WHEN 'StepRetried' THEN 2
            WHEN 'StepPending' THEN 2 WHEN 'RunPaused' THEN 3 WHEN 'RunCompleted' THEN 4
            WHEN 'RunFailed' THEN 5 WHEN 'RunCancelled' THEN 6 END) % 8 AS state,
        (array_agg(data->>'step_id' ORDER BY version DESC)
            FILTER (WHERE name = 'StepEntered'))[1] AS step,
        (array_agg((data->>'steps_remaining')::bigint ORDER BY version DESC)
            FILTER (WHERE data ? 'steps_remaining'))[1] AS remaining,
        count(*) FILTER (WHERE name IN ('StepCompleted', 'BranchEvaluated', 'StepSkipped',
            'WaitCompleted') OR (name = 'RunCompleted' AND data ? 'step_id')) AS done,
        max(data->>'outcome') FILTER (WHERE name = 'RunCompleted') AS outcome,
        max(data->>'cause') FILTER (WHERE name IN ('RunFailed', 'RunCancelled')) AS reason,
        max((data->>'until_tick')::bigint) FILTER (WHERE name = 'WaitStarted') AS until
    FROM {events} AS events WHERE run_id IS NOT NULL GROUP BY run_id
) AS runs
"""
_SET_COUNTS = """
INSERT INTO {table}_counts
SELECT p, s, b, count(*) FROM {table},
    LATERAL (VALUES (plan_id), ('')) AS plans (p), LATERAL (VALUES (status), ('')) AS states (s),
    LATERAL (VALUES (ordinal / 4096), (-1)) AS buckets (b)
GROUP BY p, s, b
"""


def _set_based(database: str, engine: Engine) -> tuple[float, float]:
    """One statement for the rows and one for the counts, indexes there from the beginning: over the
    log as it is stored, and over a copy of its events as jsonb."""
    with closing(psycopg.connect(database, autocommit=True)) as own:
        _copy_as_jsonb(own, engine)
        own.execute("SET jit = off")
        over_log = _statement_rate(own, engine, _LOG, 98)
        over_copy = _statement_rate(own, engine, "events_jsonb", 99)
    return over_log, over_copy


def _copy_as_jsonb(own: psycopg.Connection[tuple[object, ...]], engine: Engine) -> None:
    store, journal = engine._parts.store, engine._journal
    own.execute(_JSONB)
    position = 0
    while rows := store.read_log(position, 10_000):
        with own.cursor().copy("COPY events_jsonb FROM STDIN") as copy:
            for event in journal.open_public(rows):
                run = event.stream_id if RUN_LIST.key(event) is not None else None
                data = msgspec.json.encode(event.event).decode()
                copy.write_row(
                    (event.position, run, event.version, event.name, event.meta.tick, data)
                )
        position = rows[-1].position
    own.execute("VACUUM ANALYZE events_jsonb")


def _statement_rate(
    own: psycopg.Connection[tuple[object, ...]], engine: Engine, events: str, build_number: int
) -> float:
    """Events of the log in a second; asserts that the statement makes the rows that ours are."""
    build = Build(RUN_LIST, build_number)
    table = build.table.physical_name
    head = engine._parts.store.log_head().position
    with engine._parts.views.building() as tx:
        tx.create(build.tables)
    start = time.perf_counter()
    with own.transaction():
        own.execute(_SET.format(table=table, events=events).encode())
        own.execute(_SET_COUNTS.format(table=table).encode())
    rate = head / (time.perf_counter() - start)
    names = ", ".join(column.name for column in build.table.columns)
    ours = engine._projector.catch_up(RUN_LIST).table.physical_name
    differing = own.execute(
        f"SELECT count(*) FROM (SELECT {names} FROM {table} EXCEPT "
        f"SELECT {names} FROM {ours}) AS differing".encode()
    ).fetchone()
    assert differing == (0,), f"the statement makes other rows: {differing}"
    return rate


# --- memory and latency ---------------------------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from scripts.benchmarks.harness import config_of
from dee_es import Engine
url, folder, name, throttle, rounds = sys.argv[1:]
with Engine(config_of(url, Path(folder), name)) as engine:
    for _ in range(int(rounds)):
        engine.projections.rebuild("run_list", throttle=float(throttle))
        engine.projections.drop("run_list")
        # What getrusage tells would include the process that started this one.
        status = Path("/proc/self/status").read_text()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024, flush=True)
"""


def _child(url: str, folder: Path, name: str, throttle: float, rounds: int) -> list[str]:
    return [sys.executable, "-c", _CHILD, url, str(folder), name, str(throttle), str(rounds)]


def _memory(url: str, folder: Path, name: str, events: int, key: str) -> Figure:
    done = subprocess.run(
        _child(url, folder, name, 1.0, 1), check=True, capture_output=True, text=True
    )
    return Figure(
        f"peak memory of a rebuild of {events:,} events",
        float(done.stdout),
        "MiB",
        None,
        MEMORY_BAR,
        False,
        key,
    )


def _latency(url: str, folder: Path, engine: Engine) -> Iterator[Figure]:
    chosen = plan("rebuilt")

    calls = max(200, min(CALLS, engine.health().position // 100))

    def sample(first: int) -> float:
        times = []
        for n in range(calls):
            person = Contact(id=f"late_{first + n}", email=f"late_{first + n}@example.com")
            start = time.perf_counter()
            engine.execute(chosen, contact=person)
            times.append((time.perf_counter() - start) * 1000)
            time.sleep(0.005)
        return percentile(times, 0.99)

    sample(0)
    idle = sample(calls)
    busy_child = subprocess.Popen(
        _child(url, folder, "rebuilds", THROTTLE, 10**6), stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(2)
        busy = sample(2 * calls)
        assert busy_child.poll() is None, "the rebuild went on all the time"
    finally:
        busy_child.kill()
        busy_child.wait()
    yield Figure("execute, nothing else at work", idle, "ms p99")
    yield Figure(f"execute during a rebuild throttled to {THROTTLE:.0%}", busy, "ms p99")
    work = "execute during a rebuild to idle"
    yield Figure(work, busy / idle, "times", None, LATENCY_BAR, False, steady=False)
