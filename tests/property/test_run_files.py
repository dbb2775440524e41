"""Whatever is done to a run file, it is taken in as a whole or refused with a word about what is
wrong, and then nothing is written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import DeeError
from tests.support.counts import count
from tests.support.engines import DAY, calling, fickle, open_engine, outreach, publish_basics
from tests.support.runs.forging import forged

JANE = {"id": "c-1", "email": "jane@example.com", "phone": "+15550100", "firstName": "Jane"}
ODD = st.sampled_from(
    [None, True, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), 0.5, 1e308, "", "x", "\0", "a\0b",
     "\udcec", "é", "plan:x", "run_" + "a" * 26, "AAAA", "A" * 5_000, [], [None], {}, {"a": 1}]
)  # fmt: skip
SHARE = st.floats(0, 0.9999)
NAMES = ("RunStarted", "RunCompleted", "StepDispatched", "PlanPublished", "ContactErased",
         "LogImported", "ClockStarted")  # fmt: skip


@cache
def exported(personal_data: bool) -> tuple[bytes, ...]:
    """Real files: a run of mails, and one of calls that went as it pleased."""
    files = []
    for plan in (outreach(), calling()):
        with open_engine(":memory:", channel=MemoryChannel(fickle)) as engine:
            publish_basics(engine)
            engine.publish_policy({"limits": {"perDay": {"contact": 3}}})
            run = engine.execute(plan, JANE, {"offer": 7}).id
            engine.run_until(10)
            engine.pause_run(run, "wait")
            engine.resume_run(run)
            engine.ingest_event("email.replied", "c-1", data={"text": "yes"})
            engine.run_until(9 * DAY)
            files.append(engine.export_run(run, personal_data=personal_data))
    return tuple(files)


FILES = st.builds(
    lambda which, personal: exported(personal)[which], st.integers(0, 1), st.booleans()
)


def refusal(act: Callable[[], object]) -> DeeError | None:
    """Why it was refused; None if it was done."""
    try:
        act()
    except DeeError as error:
        return error
    return None


def take_in(content: bytes) -> None:
    """Take a file in, or be told why not; what has come in can be read."""
    with open_engine(":memory:") as engine:
        before = engine._parts.store.log_head()
        refused = refusal(lambda: engine.import_run(content))
        if refused is None:
            look_at(engine)
            return
        assert engine._parts.store.log_head() == before
        assert engine._parts.store.stream_ids("") == ["system"]
        assert ": " in str(refused)
        assert str(refused).isprintable()


def look_at(engine: Engine) -> None:
    """Nothing that came in holds up whoever reads."""
    assert engine.verify_log().valid
    assert engine.audit.verify_indexes().valid
    (run,) = engine.list_runs().runs
    assert engine.get_timeline(run.id)
    assert engine.audit.get_by_run(run.id)
    for read in (engine.explain, engine.replay):
        refusal(lambda read=read: read(run.id))  # type: ignore[misc]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each part of a document."""
    if path:
        yield path
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inside:
        yield from places(each, (*path, key))


def with_another(document: Any, share: float, value: object, gone: bool) -> None:
    """Change the part that stands so far into the document, or take it out."""
    ways = list(places(document))
    if not ways:
        return
    *way, last = ways[int(share * len(ways))]
    for key in way:
        document = document[key]
    if gone:
        del document[last]
    else:
        document[last] = copy.deepcopy(value)


@given(FILES, st.lists(st.tuples(SHARE, SHARE, st.binary(max_size=4)), min_size=1, max_size=3))
@settings(max_examples=count(100, 3_000))
def test_bytes_that_were_changed(content: bytes, hits: list[tuple[float, float, bytes]]) -> None:
    """Some are put in the place of others; few or many may be missing then."""
    for at, length, put in hits:
        place = int(at * len(content))
        end = place + int(length**8 * (len(content) - place))
        content = content[:place] + put + content[end:]
    take_in(content)


@given(FILES, SHARE, ODD, st.booleans())
@settings(max_examples=count(100, 3_000))
def test_another_document(content: bytes, share: float, value: object, gone: bool) -> None:
    document = json.loads(content)
    with_another(document, share, value, gone)
    take_in(json.dumps(document).encode())


@given(FILES, SHARE, SHARE, SHARE, ODD, st.booleans(), st.sampled_from((*[None] * 9, *NAMES)))
@settings(max_examples=count(150, 5_000))
def test_events_that_nobody_recorded_under_a_chain_that_holds(
    content: bytes,
    stream: float,
    place: float,
    share: float,
    value: object,
    gone: bool,
    name: str | None,
) -> None:
    streams = json.loads(content)["streams"]
    # The run's own, which is the last, as often as all others.
    chosen = streams[min(int(2 * stream * len(streams)), len(streams) - 1)]

    def change(payload: dict[str, Any]) -> None:
        if name is not None:
            payload["name"] = name
        parts = {key: payload[key] for key in ("meta", "data")}
        with_another(parts, share, value, gone)
        payload.update(parts)

    number = int(place * len(chosen["events"]))
    take_in(forged(content, chosen["id"], change, number))
