"""`DeeClient` where things go wrong: answers that are lost, servers that are started anew, ids and
addresses that are none, errors by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, Final

import pytest

import dee_es
from dee_es import ChannelEvent, Engine
from dee_es import errors as e
from dee_es.client import ApiRefused, DeeClient
from dee_es.client import transport as sending
from dee_es.client.transport import in_python, problem_error
from dee_es.engine.models import SuppressionEntry
from dee_es.errors import DeeError, InvalidInput, StoreUnavailable
from dee_es.web.problems import STATUSES, in_json, problem_of
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.listening import Lossy, listening, lossy_way


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits between two tries."""
    monkeypatch.setattr(sending, "_PAUSE_S", 0.01)


@pytest.fixture
def lossy(quick: None) -> Iterator[tuple[Engine, DeeClient, Lossy]]:
    with lossy_way() as found:
        yield found


def test_a_call_whose_answer_was_lost_acts_once(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    engine, client, way = lossy
    plan = engine.get_plan("a")
    way.lose = ["POST /api/v1/runs"] * 2
    run = client.execute(plan, {"id": "c1"})
    assert len(way.asked) == 3
    assert engine.list_runs().total == 1
    for verb, call in (
        ("pause", lambda: client.pause_run(run.id, "wait")),
        ("resume", lambda: client.resume_run(run.id)),
        ("cancel", lambda: client.cancel_run(run.id, "over")),
    ):
        way.lose = [f"POST /api/v1/runs/{run.id}/{verb}"]
        before = engine.get_run(run.id).version
        assert call() == engine.get_run(run.id)
        assert engine.get_run(run.id).version == before + 1
    way.lose = ["POST /api/v1/channel-events"]
    assert client.ingest_event("email.opened", "c1") is True
    way.lose = ["POST /api/v1/channel-events/batch"]
    told = client.ingest_events([ChannelEvent("email.opened", "c1")] * 3)
    assert (told.accepted, told.known) == (3, 0)
    own = [each for each in engine.get_contact_logs("c1") if each.stream == "contact:c1"]
    assert [each.data["type"] for each in own] == ["email.opened"] * 4
    way.lose = ["POST /api/v1/runs/bulk-execute", "GET /api/v1/jobs/"]
    found = client.bulk_execute(plan, [{"id": f"d{n}"} for n in range(5)])
    assert (found.created, found.skipped) == (5, 0)
    way.lose = ["POST /api/v1/runs/bulk-cancel"]
    assert client.bulk_cancel({"plan_id": "a"}, "over").cancelled == 5
    assert way.lose == []


def test_what_never_answers_is_given_up(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    engine, client, way = lossy
    way.lose = ["GET /api/v1/health"] * 1000
    nothing = pytest.raises(StoreUnavailable, match="nothing is known to be done")
    with DeeClient(way.url, patience_s=0.2) as hasty, nothing:
        hasty.health()
    assert 1 < len(way.asked) < 1000
    way.asked, way.lose = [], ["GET /api/v1/health"]
    with DeeClient(way.url, patience_s=0) as at_once, pytest.raises(StoreUnavailable):
        at_once.health()
    assert len(way.asked) == 1
    assert client.health() == engine.health()


@pytest.mark.parametrize("patience", [-1, float("nan"), None, "30"])
def test_patience_is_a_number_of_seconds(patience: Any) -> None:
    with pytest.raises(InvalidInput, match="patience_s: must be 0 seconds or more"):
        DeeClient("http://127.0.0.1:1", patience_s=patience)


def test_what_is_known_to_be_done_is_told_where_the_server_stays_away(quick: None) -> None:
    """Whoever called knows then how far it came, and that the same call goes on from there."""
    with lossy_way() as (engine, _, way), DeeClient(way.url, patience_s=0.1) as client:
        plan, lost = engine.get_plan("a"), "POST /api/v1/"
        people = ({"id": f"d{n}"} for n in range(1100))

        def on_progress(result: Any) -> None:
            if result.done > 500:
                way.lose = [lost, "GET /api/v1/"] * 10_000

        with pytest.raises(StoreUnavailable, match="known to be done: 500 created, 0 skipped, 0 e"):
            client.bulk_execute(plan, people, batch_size=10, on_progress=on_progress)

        def events() -> Iterator[ChannelEvent]:
            way.lose = []
            for n in range(4):
                yield ChannelEvent("email.opened", "d1", event_id=f"e{n}")
            way.lose = [lost] * 10_000

        with pytest.raises(StoreUnavailable, match="known to be done: 2 accepted, 0 known already"):
            client.ingest_events(events(), batch_size=2)

        def entries() -> Iterator[SuppressionEntry]:
            way.lose = []
            for n in range(4):
                yield SuppressionEntry(contact_id=f"d{n}")
            way.lose = [lost] * 10_000
            yield SuppressionEntry(contact_id="d4")

        with pytest.raises(StoreUnavailable, match="known to be done: 4 added, 0 there already"):
            client.import_suppressions(entries(), batch_size=2)
        way.lose = []


def test_a_job_goes_on_at_a_server_that_was_started_anew(
    lossy: tuple[Engine, DeeClient, Lossy],
) -> None:
    """Its jobs are gone then; the same call under the same key finds what they had done."""
    engine, client, way = lossy
    people = [{"id": f"d{n}"} for n in range(400)]
    moved = threading.Event()

    def on_progress(result: Any) -> None:
        if result.done and not moved.is_set():
            moved.set()
            way.move(second)

    with listening(engine) as second:
        found = client.bulk_execute(engine.get_plan("a"), iter(people), batch_size=10,
                                    on_progress=on_progress)  # fmt: skip
    assert moved.is_set()
    assert (found.created, found.skipped, found.errors) == (400, 0, 0)
    assert engine.list_runs().total == 400


def test_a_plan_at_hand_is_the_plan_that_is_meant(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    """Not the one that has its name and version on the server."""
    engine, client, _ = lossy
    with open_engine(":memory:") as other:
        publish_basics(other)
        theirs = other.publish_plan(outreach("a", name="Another"))
    assert theirs.version == 1
    run = client.execute(theirs, {"id": "c1"})
    assert (run.plan_version, engine.get_plan("a", 2).name) == (2, "Another")
    assert client.execute("a@1", {"id": "c2"}).plan_version == 1


@pytest.mark.parametrize("contacts", [[], [{"id": "d1"}], [{"id": "d 1"}]])
def test_a_plan_that_is_not_there_is_told_whoever_is_to_be_enrolled(
    lossy: tuple[Engine, DeeClient, Lossy], contacts: list[Any]
) -> None:
    _, client, _ = lossy
    with pytest.raises(e.PlanNotFound, match="plan 'nosuch' has not been published"):
        client.bulk_execute("nosuch", contacts)


def test_many_contacts_go_in_requests_that_fit(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    engine, client, way = lossy
    large = ({"id": f"d{n}", "x": "y" * 100_000} for n in range(30))
    assert client.bulk_execute(engine.get_plan("a"), large).created == 30
    posts = [each for each in way.asked if each.endswith("/bulk-execute")]
    assert len(posts) == 6


@pytest.mark.parametrize(
    "url, token",
    [
        ("ftp://example.com", None),
        ("example.com", None),
        ("", None),
        ("http://", None),
        ("http://user:password@localhost", None),
        ("http://dee.example.com", "a-token"),
        ("http://10.0.0.1:8765", "a-token"),
        ("http://[::1", None),
    ],
)
def test_addresses_that_are_none_or_would_give_the_token_away(url: str, token: str | None) -> None:
    with pytest.raises(InvalidInput, match="url") as refused:
        DeeClient(url, token)
    assert "password" not in str(refused.value)


def test_a_token_may_go_to_this_machine_and_over_tls() -> None:
    for url in ("http://localhost:1", "http://127.0.0.1:1/", "http://[::1]:1", "https://d.example"):
        DeeClient(url, "a-token").close()


def test_ids_do_not_lead_to_other_addresses(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    _, client, way = lossy
    for bad in ("..", ".", "a/b", "a?b", "a#b", "%2e%2e", "a b", ""):
        for call in (
            lambda bad=bad: client.get_run(bad),
            lambda bad=bad: client.cancel_run(bad, "x"),
            lambda bad=bad: client.erase_contact(bad, "x"),
            lambda bad=bad: client.get_plan(bad),
            lambda bad=bad: client.step_funnel(bad),
            lambda bad=bad: client.audit.get_context_at(bad, "x"),
            lambda bad=bad: client.projections.rebuild(bad),
            lambda bad=bad: client.get_definition("template", bad),
        ):
            with pytest.raises(InvalidInput):
                call()
    # Which projections there are is asked for, to say it.
    assert set(way.asked) == {"GET /api/v1/projections"}


def test_every_error_of_the_engine_is_raised_as_itself() -> None:
    special = {
        e.InvalidInput,
        e.DefinitionNotFound,
        e.PlanValidationError,
        e.InvalidTransition,
        e.OutcomeUnknownError,
    }
    kinds = [
        kind
        for kind in vars(e).values()
        if isinstance(kind, type) and issubclass(kind, DeeError) and kind is not DeeError
    ]
    assert {kind for kind, _, _ in STATUSES} <= set(kinds)
    made: list[DeeError] = [kind("what it says: 1") for kind in kinds if kind not in special]
    made.append(e.InvalidInput("start_at", "is over: 1"))
    made.append(e.DefinitionNotFound("policy", "has not been published: 1"))
    made.append(e.InvalidTransition("run_1", "paused", "active", "why: because"))
    made.append(e.InvalidTransition("run_1", "paused", "active"))
    made.append(e.OutcomeUnknownError("run_1", "failed", "active", "settle it"))
    made.append(e.PlanValidationError("p1", [e.PlanFault("s", "is wrong", "mend it")]))
    for error in made:
        said = problem_of(error, "/x").model_dump(exclude_none=True)
        again = problem_error(said["error"], said["detail"], said["status"], said)
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("name", ["DeeError", "Sequence", "dataclass", "__import__", "", "Nothing"])
def test_no_class_is_looked_up_by_a_name_that_was_sent(name: str) -> None:
    error = problem_error(name, "x", 500, {})
    assert type(error) is ApiRefused


@pytest.mark.parametrize(
    "field", ["start_at", "run_id", "contact.email", "filters.plan_id", "version, tick, time", "x"]
)
def test_fields_have_their_names_of_python_again(field: str) -> None:
    assert in_python(in_json(field)) == field


def test_the_client_is_part_of_the_public_surface() -> None:
    assert dee_es.DeeClient is DeeClient


def test_an_attempt_that_is_under_way_is_waited_for(
    lossy: tuple[Engine, DeeClient, Lossy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost while the server is still at it: the next try is told to wait."""
    engine, client, _ = lossy
    begun, let = threading.Event(), threading.Event()
    plain, told = engine.pause_run, list[bool]()

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert let.wait(60)
        return plain(*args, **options)

    under_way = sending._under_way

    def heard(answer: Any) -> bool:
        told.append(under_way(answer))
        let.set()
        return told[-1]

    run = client.execute(engine.get_plan("a"), {"id": "c1"})
    monkeypatch.setattr(engine, "pause_run", slow)
    monkeypatch.setattr(sending, "_under_way", heard)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.pause_run, run.id, "wait", command_id="mine")
        assert begun.wait(60)
        assert client.pause_run(run.id, "wait", command_id="mine") == first.result()
    assert told[0] is True, "it was told to wait"
    assert engine.get_run(run.id).version == run.version + 1


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The address of something that gives these answers, the last of them to all that follow."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.wfile.write(left.pop(0) if len(left) > 1 else left[0])
            self.close_connection = True

        do_GET = do_POST = _answer  # noqa: N815 - as the library calls them

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def answer_of(status: str, kind: str, body: bytes, *more: str) -> bytes:
    # What is going to be closed says so, or a client may ask the next on it in that very moment.
    head = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return "\r\n".join((f"HTTP/1.1 {status}", *head, "", "")).encode() + body


@pytest.mark.parametrize(
    "answer, status",
    [
        (answer_of("200 OK", "text/html", b"<h1>Sign in</h1>"), 200),
        (answer_of("200 OK", "application/json", b'{"cut": '), 200),
        (answer_of("200 OK", "application/json", b"\xff"), 200),
        (answer_of("200 OK", "application/json", b""), 200),
        (answer_of("302 Found", "text/html", b"", "Location: /elsewhere"), 302),
        (answer_of("500 Oh", "application/problem+json", b"[]"), 500),
        (answer_of("409 Oh", "application/problem+json", b"no"), 409),
        (answer_of("409 Oh", "application/problem+json", b"[]"), 409),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_own(
    quick: None, answer: bytes, status: int
) -> None:
    with answering(answer) as url, DeeClient(url) as client:
        for call in (client.health, lambda: client.pause_run("run_x"), client.list_runs):
            with pytest.raises(ApiRefused, match="NotAnApi") as caught:
                call()
            assert caught.value.status == status


PROBLEM: Final = "application/problem+json"
BUSY: Final = b'{"error": "TooManyJobs", "detail": "wait"}'
FILE: Final = answer_of("200 OK", "text/csv", b"a,b\n")


@pytest.mark.parametrize(
    "busy, status",
    [
        (answer_of("429 Busy", PROBLEM, BUSY, "Retry-After: 0"), 429),
        (answer_of("503 Away", PROBLEM, BUSY), 503),
        (answer_of("502 Missed", "text/html", b"<h1>nginx</h1>"), 502),
        (answer_of("503 Missed", "text/html", b"<h1>nginx</h1>"), 503),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na,b,", None),
    ],
)
def test_a_file_is_asked_for_again_where_it_may_be_had_in_a_moment(
    quick: None, busy: bytes, status: int | None
) -> None:
    """What the server says of itself is asked three times, what is away as long as one likes."""
    away = status is None or b"nginx" in busy
    with answering(busy, busy, FILE) as url, DeeClient(url) as client:
        assert list(client._http.lines("/jobs/job_1/file")) == [b"a,b\n"]
    if away:
        with answering(*[busy] * 6, FILE) as url, DeeClient(url) as client:
            assert list(client._http.lines("/jobs/job_1/file")) == [b"a,b\n"]
    patience = 0.1 if away else 30.0
    left = [busy] if away else [busy, busy, busy, FILE]
    with answering(*left) as url, DeeClient(url, patience_s=patience) as client:
        with pytest.raises(StoreUnavailable if status is None else ApiRefused) as refused:
            list(client._http.lines("/jobs/job_1/file"))
        assert getattr(refused.value, "status", None) == status


def test_a_file_that_is_refused_for_good_is_not_asked_for_again(quick: None) -> None:
    gone = answer_of("410 Gone", PROBLEM, b'{"error": "FileGone", "detail": "erased"}')
    with answering(gone, FILE) as url, DeeClient(url) as client:
        with pytest.raises(ApiRefused, match="FileGone"):
            list(client._http.lines("/jobs/job_1/file"))
        assert list(client._http.lines("/jobs/job_1/file")) == [b"a,b\n"]


def test_a_server_says_how_long_it_wants_to_be_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = list[float]()
    # Its own view of the module: threads of others sleep on.
    monkeypatch.setattr(
        sending, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    )
    busy = answer_of("429 Busy", PROBLEM, BUSY, "Retry-After: 7")
    with answering(busy, FILE) as url, DeeClient(url) as client:
        assert list(client._http.lines("/jobs/job_1/file")) == [b"a,b\n"]
    assert slept == [7.0]


def test_a_file_that_an_erasure_took_is_made_again(
    lossy: tuple[Engine, DeeClient, Lossy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is erased while the export runs: what was read until then is not given out."""
    engine, client, way = lossy
    runs = [client.execute("a", {"id": who, "email": f"{who}@example.com"}) for who in ("c1", "c2")]
    export, erased = engine.audit.export, list[bool]()

    def erasing(*args: Any, **options: Any) -> Any:
        made = export(*args, **options)
        if not erased:
            erased.append(client.erase_contact("c2", "asked to").key_destroyed)
        return made

    monkeypatch.setattr(engine.audit, "export", erasing)
    content = client.audit.export(runs[0].id, format="csv").content
    assert content is not None
    assert content.count(runs[0].id.encode()) > 1
    assert len([each for each in way.asked if each.endswith("/audit/export")]) == 2


def test_what_no_request_can_hold_is_refused_by_name_and_not_shown(
    lossy: tuple[Engine, DeeClient, Lossy],
) -> None:
    _, c, way = lossy
    poison, data = "ada@example.com \ud800", {"x": float("nan")}
    calls: list[tuple[str, Callable[[], object]]] = [
        ("reason", lambda: c.pause_run("run_1", poison)),
        ("data.x", lambda: c.ingest_event("email.opened", "c1", data=data)),
        ("data.x", lambda: c.ingest_event("email.opened", "c1", data={"x": object()})),
        ("email", lambda: c.suppress(email=poison)),
        ("email", lambda: c.suppress(email=b"ada@example.com")),  # type: ignore[arg-type]
        ("plan_id", lambda: c.list_runs(plan_id=poison)),
        ("text", lambda: c.audit.query(text=poison)),
        ("filters.planId", lambda: c.bulk_cancel({"plan_id": {1}}, "over")),
    ]
    for field, call in calls:
        with pytest.raises(InvalidInput) as refused:
            call()
        assert refused.value.field == field
        assert "ada@" not in str(refused.value)
    assert way.asked == []


@pytest.mark.parametrize("token", ["dee_x\n", " dee_x", "", "dee_é", "a b"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        DeeClient("http://127.0.0.1:1", token)
    assert caught.value.field == "token"
    assert "dee_" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "é", "a\nb", " a", "\0"])
def test_a_command_id_that_no_header_can_hold_is_refused(
    lossy: tuple[Engine, DeeClient, Lossy], key: str
) -> None:
    engine, client, way = lossy
    entries = [SuppressionEntry(contact_id="c1")]
    for call in (
        lambda: client.execute("a", {"id": "c1"}, command_id=key),
        lambda: client.bulk_execute("a", [{"id": "c1"}], command_id=key),
        lambda: client.bulk_cancel({"plan_id": "a"}, "over", command_id=key),
        lambda: client.import_suppressions(entries, command_id=key),
        lambda: client.ingest_events([ChannelEvent("email.opened", "c1")], command_id=key),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "command_id"
    assert way.asked == []
    assert engine.list_runs().total == 0
