"""Events as stored bytes: what is public, what is personal, and what is refused on reading."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from dee_es.core import codec, registry, upcasts
from dee_es.core import events as e
from dee_es.core.registry import REGISTRY, Entry
from dee_es.core.values import MAX_PAYLOAD_BYTES
from dee_es.errors import IntegrityViolation, InvalidInput, UnknownEventVersion
from tests.support.versions.schemas import register

META = e.Meta(7, "cmd_1", "execute", 1_700_000_000_000, "ann", "because")
WHERE = "run_x entry 3"


def test_the_public_part_is_schema_meta_and_data() -> None:
    name, public, personal = codec.encode(e.RunFailed("broken", "intro"), META)
    assert name == "RunFailed"
    assert json.loads(public) == {
        "schema": 1,
        "meta": {
            "tick": 7,
            "command_id": "cmd_1",
            "command": "execute",
            "recorded_at": 1_700_000_000_000,
            "actor": "ann",
            "reason": "because",
        },
        "data": {"cause": "broken", "step_id": "intro"},
    }
    assert personal == b""


def test_what_is_personal_is_in_a_part_of_its_own() -> None:
    event = e.StepFailed("intro", "refused", 1, personal=e.Detail({"to": "jane@example.com"}))
    name, public, personal = codec.encode(event, META)
    assert json.loads(public)["data"] == {"step_id": "intro", "error": "refused", "attempt": 1}
    assert json.loads(personal) == {"data": {"to": "jane@example.com"}}
    assert codec.decode(name, public, personal, WHERE) == (event, META)


def test_without_its_key_an_event_lacks_only_what_is_personal() -> None:
    event = e.StepFailed("intro", "refused", 1, personal=e.Detail({"to": "jane@example.com"}))
    name, public, _ = codec.encode(event, META)
    assert codec.decode(name, public, None, WHERE) == (e.StepFailed("intro", "refused", 1), META)


def test_equal_events_give_equal_bytes_whatever_the_order_of_their_keys() -> None:
    one = e.StepFailed("intro", "x", 1, personal=e.Detail({"a": 1, "b": {"c": 2, "d": 3}}))
    two = e.StepFailed("intro", "x", 1, personal=e.Detail({"b": {"d": 3, "c": 2}, "a": 1}))
    assert codec.encode(one, META) == codec.encode(two, META)


@pytest.mark.parametrize("public, personal", [(b"{}", b""), (b"", b"x"), (b"{}", b"\x00\xff" * 9)])
def test_both_parts_travel_as_one_payload(public: bytes, personal: bytes) -> None:
    payload = codec.join(public, personal)
    assert payload[:4] == len(public).to_bytes(4, "big")
    assert codec.split(payload, WHERE) == (public, personal)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0\0\x05abcd"])
def test_a_payload_that_was_cut_is_told_by_its_place(payload: bytes) -> None:
    with pytest.raises(IntegrityViolation, match=WHERE):
        codec.split(payload, WHERE)


def test_a_payload_has_a_largest_size() -> None:
    def text(size: int) -> e.Event:
        return e.StepFailed("intro", "x", 0, personal=e.Detail({"text": "a" * size}))

    _, public, personal = codec.encode(text(0), META)
    room = MAX_PAYLOAD_BYTES - len(public) - len(personal)
    codec.encode(text(room), META)
    with pytest.raises(InvalidInput, match="StepFailed"):
        codec.encode(text(room + 1), META)


# --- reading --------------------------------------------------------------------------------------


def public_of(event: e.Event, **changes: Any) -> bytes:
    """The event's public part with some members of it changed."""
    stored = json.loads(codec.encode(event, META)[1])
    return json.dumps({**stored, **changes}).encode()


@pytest.mark.parametrize(
    "event",
    [
        e.RunPaused("remainig"),  # type: ignore[arg-type]
        e.StepResolved("intro", "lost", 3),  # type: ignore[arg-type]
        e.ContactSuppressed("c1", "planet"),  # type: ignore[arg-type]
        e.LogExported("gift", "json", 1, 1),  # type: ignore[arg-type]
        e.ClockStarted(0, 1.5, "system"),  # type: ignore[arg-type]
        e.ClockStarted(0, True, "system"),
    ],
)
def test_what_nobody_could_read_back_is_not_written(event: e.Event) -> None:
    with pytest.raises(InvalidInput, match=f"{type(event).__name__} payload: could not be read"):
        codec.encode(event, META)


def test_every_event_of_which_a_field_holds_one_of_a_few_values_is_read_back() -> None:
    def few(hint: Any) -> bool:
        return get_origin(hint) is Literal or any(few(part) for part in get_args(hint))

    hints = {name: get_type_hints(entry.cls).values() for name, entry in REGISTRY.items()}
    assert {name for name, each in hints.items() if any(map(few, each))} == codec.READ_BACK


def test_an_unknown_name_is_refused_and_not_looked_up_anywhere() -> None:
    with pytest.raises(UnknownEventVersion, match=rf"{WHERE}.*os:system"):
        codec.decode("os:system", public_of(e.RunFailed("x")), None, WHERE)


@pytest.mark.parametrize("schema", [0, -1, 2, 99])
def test_an_unknown_schema_is_refused(schema: int) -> None:
    public = public_of(e.RunFailed("x"), schema=schema)
    with pytest.raises(UnknownEventVersion, match=rf"{WHERE}.*RunFailed.*{schema}"):
        codec.decode("RunFailed", public, None, WHERE)


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"null",
        b"{",
        b"[]",
        b'"\xff"',
        public_of(e.RunFailed("x"), schema="1"),
        public_of(e.RunFailed("x"), data=None),
        public_of(e.RunFailed("x"), data={}),
        public_of(e.RunFailed("x"), data={"cause": 1}),
        public_of(e.RunFailed("x"), meta={}),
        public_of(
            e.RunFailed("x"), meta={**json.loads(public_of(e.RunFailed("x")))["meta"], "tick": "1"}
        ),
    ],
)
def test_a_public_part_that_is_none_is_told_by_its_place(public: bytes) -> None:
    with pytest.raises(IntegrityViolation, match=rf"{WHERE}.*RunFailed"):
        codec.decode("RunFailed", public, None, WHERE)


@pytest.mark.parametrize("personal", [b"null", b"{", b"\xff\xff", b'{"data": 1}'])
def test_a_personal_part_that_is_none_is_told_by_its_place(personal: bytes) -> None:
    with pytest.raises(IntegrityViolation, match=WHERE):
        codec.decode("StepFailed", public_of(e.StepFailed("intro", "x")), personal, WHERE)


def test_an_event_without_personal_data_has_no_personal_part() -> None:
    with pytest.raises(IntegrityViolation, match=WHERE):
        codec.decode("RunFailed", public_of(e.RunFailed("x")), b"{}", WHERE)


# --- older versions -------------------------------------------------------------------------------


@pytest.fixture
def third_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if RunFailed had changed twice: `why` became `reason`, then `cause`."""
    register(monkeypatch, "RunFailed", Entry(e.RunFailed, 3, "run.failed"))
    steps = {
        ("RunFailed", 1): upcasts.Upcast(
            e.RunFailed, lambda old: {"reason": old["why"], "step_id": old.get("step_id")}
        ),
        ("RunFailed", 2): upcasts.Upcast(
            e.RunFailed, lambda old: {"cause": old["reason"], "step_id": old["step_id"]}
        ),
    }
    for step, lift in steps.items():
        monkeypatch.setitem(upcasts.UPCASTS, step, lift)


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize(
    "schema, data", [(1, {"why": "x"}), (2, {"reason": "x", "step_id": None}), (3, {"cause": "x"})]
)
def test_any_version_is_read_in_the_current_shape(schema: int, data: dict[str, Any]) -> None:
    public = public_of(e.RunFailed("-"), schema=schema, data=data)
    assert codec.decode("RunFailed", public, None, WHERE) == (e.RunFailed("x"), META)


@pytest.mark.usefixtures("third_schema")
def test_events_are_written_in_the_current_version() -> None:
    assert json.loads(codec.encode(e.RunFailed("x"), META)[1])["schema"] == 3


@pytest.mark.usefixtures("third_schema")
def test_an_old_event_that_lacks_what_it_must_have_is_told_by_its_place() -> None:
    public = public_of(e.RunFailed("-"), schema=1, data={})
    with pytest.raises(IntegrityViolation, match=WHERE):
        codec.decode("RunFailed", public, None, WHERE)


def test_a_personal_part_is_lifted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "StepFailed", Entry(e.StepFailed, 2, "error.occurred"))
    step = upcasts.Upcast(e.StepFailed, personal=lambda old: {"data": old["details"]})
    monkeypatch.setitem(upcasts.UPCASTS, ("StepFailed", 1), step)
    public = public_of(e.StepFailed("intro", "x"), schema=1)
    event, _ = codec.decode("StepFailed", public, b'{"details": {"code": 5}}', WHERE)
    assert event.personal == e.Detail({"code": 5})  # type: ignore[attr-defined]


# --- the table of names ---------------------------------------------------------------------------


def test_each_event_has_one_name_and_each_name_its_own_class() -> None:
    assert {entry.cls.__name__ for entry in REGISTRY.values()} == set(REGISTRY)
    assert {entry.cls: name for name, entry in REGISTRY.items()} == registry.NAMES


def test_every_event_that_is_defined_can_be_stored() -> None:
    defined = {
        value
        for value in vars(e).values()
        if isinstance(value, type) and issubclass(value, e.Event)
    }
    assert defined - {e.Event, e.Start, e.Published} == {entry.cls for entry in REGISTRY.values()}


def test_run_events_have_the_actions_of_the_audit_log() -> None:
    written_down = """RunScheduled run.scheduled RunStarted run.started StepEntered step.entered
        StepDispatched step.dispatched StepPending step.pending StepCompleted step.executed
        BranchEvaluated step.evaluated StepSkipped step.skipped StepDeferred step.deferred
        WaitStarted wait.started WaitCompleted wait.completed ChannelEventReceived event.received
        StepFailed error.occurred StepRetried error.retried OutcomeUnknown error.outcome_unknown
        StepResolved step.resolved RunPaused run.paused RunResumed run.resumed RunRetried
        run.retried RunCancelled run.cancelled RunCompleted run.completed RunFailed run.failed"""
    words = written_down.split()
    expected = dict(zip(words[::2], words[1::2], strict=True))
    assert {name: REGISTRY[name].action for name in expected} == expected
    assert len(registry.ACTIONS) == len(REGISTRY), "no two events share an action"


def test_only_two_events_create_a_run() -> None:
    assert frozenset({"RunScheduled", "RunStarted"}) == registry.CREATING
