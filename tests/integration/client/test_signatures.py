"""The client has the engine's methods, and each of them the engine's parameters."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any, Final

import pytest

from dee_es import Engine
from dee_es.client import DeeClient
from dee_es.client.audit import AuditClient
from dee_es.client.compliance import ComplianceClient
from dee_es.client.debugging import RemoteDebugSession
from dee_es.client.projections import ProjectionsClient
from dee_es.engine.api.base import ApiBase
from dee_es.engine.auditing.manager import Audit
from dee_es.engine.compliance.manager import Compliance
from dee_es.engine.past.debugger import DebugSession
from dee_es.engine.projecting.manager import Projections
from tests.support.engines import open_engine

PAIRS: Final[tuple[tuple[type[Any], type[Any]], ...]] = (
    (Engine, DeeClient),
    (Audit, AuditClient),
    (Compliance, ComplianceClient),
    (Projections, ProjectionsClient),
    (DebugSession, RemoteDebugSession),
)
_OWN_CLOCK: Final = "the scheduler and its clock are those of the process that has the database"
_CHECKED: Final = "the server checks what it is asked for before it begins"
_ATTRIBUTE: Final = "is there as an attribute of the session, which the contract compares"
METHODS: Final = {
    "Engine.now": _OWN_CLOCK,
    "Engine.run_until": _OWN_CLOCK,
    "Engine.run_until_idle": _OWN_CLOCK,
    "Engine.tick": _OWN_CLOCK,
    "Engine.worker": _OWN_CLOCK,
    "Engine.check_execute": "is for files of a plan and all it refers to, which only `dee` reads",
    "Engine.event_id_for": "names the lines of files, which only `dee events ingest` reads",
    "Engine.enrolling": "is for processes that help one which has the database open",
    "Engine.replay_page": "is for processes that help one which has the database open",
    "Audit.check_export": _CHECKED,
    "Compliance.check": _CHECKED,
    "Audit.verify_indexes": "is for whoever has the database, of whose tables it tells",
    "DebugSession.run_id": _ATTRIBUTE,
    "DebugSession.last_version": _ATTRIBUTE,
    "Projections.keep_level": "is a loop of a process, which `dee serve` has going already",
}
"""What the client does not have, and why."""
GROUPS: Final = {
    "idempotency": "keeps the answers of a server, which the client is given",
    "clock": _OWN_CLOCK,
    "keys": "the key store is looked after where it lies, by `dee keys`",
    "links": "signs the links in messages, which only who sends them does",
}
"""What of an engine the client has no counterpart of, and why."""
_KNOWN: Final = "who acts is whom the server knows by the token; nobody says so himself"
PARAMETERS: Final = {"actor": _KNOWN, "asked_by": _KNOWN}
"""Parameters that no method of the client has, and why."""
OF_METHODS: Final = {
    ("Engine.bulk_execute", "bundled"): "is for such files, too",
    ("Engine.bulk_execute", "workers"): "a request is too small to be shared among processes",
}
"""Parameters of one method that the client's does not have, and why."""
FILTERS: Final = {"Audit.query": "its `actor` is whose entries are looked for"}
"""Where `actor` is none of whoever acts, so that the client has it."""
DEFAULTS: Final = {
    ("Engine.ingest_event", "contact_id"): "the server knows the contact of a run",
}
"""Where the client asks for less, and why."""
ANSWERS: Final = {"Engine.debug": "a session with the same methods, that asks the server"}
"""Where the client answers something of its own, and why."""


def methods(kind: type[Any]) -> dict[str, Any]:
    """The public methods and properties of a class."""
    return {
        name: member
        for name, member in inspect.getmembers_static(kind)
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }


def shared(engine: type[Any], client: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    """The names of the methods that both have, with the signatures of both."""
    theirs = methods(client)
    for name, method in methods(engine).items():
        if name in theirs and inspect.isfunction(method):
            full = f"{engine.__name__}.{name}"
            yield full, inspect.signature(method), inspect.signature(theirs[name])


@pytest.mark.parametrize(("engine", "client"), PAIRS)
def test_every_method_is_there(engine: type[Any], client: type[Any]) -> None:
    missing = {f"{engine.__name__}.{name}" for name in methods(engine).keys() - methods(client)}
    assert missing == {name for name in METHODS if name.startswith(f"{engine.__name__}.")}
    assert methods(client).keys() <= methods(engine).keys(), "no name of the client's own"


GROUPED: Final = [kind for kind in Engine.__mro__ if issubclass(kind, ApiBase)]


@pytest.mark.parametrize("group", [kind for kind in GROUPED if kind.__base__ is ApiBase])
def test_a_group_of_methods_is_in_a_file_of_the_same_name(group: type[Any]) -> None:
    own = methods(group).keys() & vars(group).keys()
    wanted = {name for name in own if f"Engine.{name}" not in METHODS}
    if not wanted:
        assert group.__name__ == "ClockApi"
        return
    place = importlib.import_module(group.__module__.replace("dee_es.engine.api", "dee_es.client"))
    (client,) = [each for each in vars(place).values() if each in DeeClient.__bases__]
    assert wanted == methods(client).keys()


def test_every_group_is_there() -> None:
    with open_engine(":memory:") as engine, DeeClient("http://127.0.0.1:9") as client:
        groups = {name for name in {*vars(engine), "compliance"} if not name.startswith("_")}
        assert groups - GROUPS.keys() == {name for name in vars(client) if name[0] != "_"}
        assert GROUPS.keys() <= groups
        tried = {(type(getattr(engine, name)), type(getattr(client, name))) for name in
                 groups - GROUPS.keys()}  # fmt: skip
        assert tried <= set(PAIRS)


@pytest.mark.parametrize(("engine", "client"), PAIRS)
def test_every_parameter_is_there_in_its_place(engine: type[Any], client: type[Any]) -> None:
    different = {}
    for name, ours, theirs in shared(engine, client):
        left_out = set(PARAMETERS) - ({"actor"} if name in FILTERS else set())
        left_out |= {n for method, n in OF_METHODS if method == name}
        wanted = [(n, each.kind) for n, each in ours.parameters.items() if n not in left_out]
        found = [(n, each.kind) for n, each in theirs.parameters.items()]
        if found != wanted:
            different[name] = (wanted, found)
    assert different == {}


@pytest.mark.parametrize(("engine", "client"), PAIRS)
def test_defaults_and_answers_are_the_same(engine: type[Any], client: type[Any]) -> None:
    defaults, answers = set(), set()
    for name, ours, theirs in shared(engine, client):
        for parameter, each in theirs.parameters.items():
            if each.default != ours.parameters[parameter].default:
                defaults.add((name, parameter))
        if ours.return_annotation != theirs.return_annotation:
            answers.add(name)
    mine = f"{engine.__name__}."
    assert defaults == {each for each in DEFAULTS if each[0].startswith(mine)}
    assert answers == {name for name in ANSWERS if name.startswith(mine)}
