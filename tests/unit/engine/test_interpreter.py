"""How the interpreter is set while work in bulk is under way, and that it is set back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect
from msgspec.structs import astuple

from dee_es.core.commands import Advance, Enroll, RecordResult
from dee_es.core.events import Meta, RecordedEvent
from dee_es.core.projection import Row
from dee_es.core.registry import REGISTRY
from dee_es.core.runs.state import Intent, Mailed, RunState
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.run_cache import LoadedRun
from dee_es.ports import Head, SealedEvent, StreamAppend, Unit


@pytest.fixture(autouse=True)
def ordinary() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield (700, 10, 10)
    gc.set_threshold(*before)


def test_the_settings_are_restored_whatever_happens() -> None:
    seen = []

    @seldom_collected()
    def fail() -> None:
        seen.append(gc.get_threshold())
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    ((made, *others),) = seen
    assert made > 10_000
    assert others == [10, 10]
    assert gc.get_threshold() == (700, 10, 10)


def test_blocks_may_end_in_another_order() -> None:
    begun, end = threading.Event(), threading.Event()

    def other() -> None:
        with seldom_collected():
            begun.set()
            end.wait()

    thread = threading.Thread(target=other)
    with seldom_collected():
        thread.start()
        begun.wait()
    assert gc.get_threshold()[0] > 10_000
    end.set()
    thread.join()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("given", [0, 1_000_000])
def test_who_collects_less_already_is_left_alone(given: int) -> None:
    gc.set_threshold(given, 10, 10)
    with seldom_collected():
        assert gc.get_threshold() == (given, 10, 10)
    assert gc.get_threshold() == (given, 10, 10)


@pytest.mark.parametrize(
    "made",
    [
        *[entry.cls for entry in REGISTRY.values()],
        *(Meta, RecordedEvent, SealedEvent, StreamAppend, Unit, Head),
        *(LoadedRun, Row, *Row.__subclasses__()),
        *(Enroll, Advance, RecordResult),
    ],
)
def test_what_is_made_by_the_thousand_is_hidden_from_the_collector(made: Any) -> None:
    assert not made.__struct_config__.gc
    assert made.__struct_config__.frozen, "else it could come to hold what holds it"


def test_a_state_is_hidden_from_the_collector_and_holds_nothing_that_could_hold_one() -> None:
    """It is not frozen, but all that is within it is."""
    assert not RunState.__struct_config__.gc
    itself, *held = structs_within(inspect.type_info(RunState))
    assert itself is RunState
    assert {Intent, Mailed} < set(held)
    assert all(each.__struct_config__.frozen for each in held)
    assert RunState not in held


def structs_within(type_: Any) -> list[type[Any]]:
    """All struct types that a described type consists of, itself among them if it is one."""
    if isinstance(type_, tuple):
        return [found for each in type_ for found in structs_within(each)]
    if not isinstance(type_, (inspect.Type, inspect.Field)):
        return []
    found = [type_.cls] if isinstance(type_, inspect.StructType) else []
    return found + structs_within(astuple(type_))
