"""Every event as it was ever stored: read as it was meant, and still written the same way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.evidence import chain
from dee_es.core.registry import REGISTRY
from dee_es.core.schemas import describe
from dee_es.core.upcasts import shape
from tests.golden.examples import EXAMPLES, META, PREVIOUS, STREAM, VERSION, expected, stored
from tests.golden.shape import shape_of
from tests.golden.write import HERE, path_of

STORED = [
    (name, schema) for name, entry in REGISTRY.items() for schema in range(1, entry.schema + 1)
]
CURRENT = [(name, entry.schema) for name, entry in REGISTRY.items()]


def golden(name: str, schema: int) -> dict[str, Any]:
    """The golden file of an event's schema."""
    content: dict[str, Any] = json.loads(path_of(name, schema).read_text("utf-8"))
    return content


def test_every_schema_of_every_event_has_a_golden_file_and_nothing_else_has() -> None:
    there = {path.name for path in HERE.glob("*.json")}
    assert there == {path_of(name, schema).name for name, schema in STORED}


@pytest.mark.parametrize("name, schema", STORED)
def test_what_was_stored_is_read_as_it_was_meant(name: str, schema: int) -> None:
    sealed = chain.unseal(bytes.fromhex(golden(name, schema)["state"]), name)
    public, personal = codec.split(sealed.payload, name)
    assert codec.decode(name, public, personal, name) == (expected(name, schema), META)


@pytest.mark.parametrize("name, schema", STORED)
def test_what_was_stored_verifies(name: str, schema: int) -> None:
    state = bytes.fromhex(golden(name, schema)["state"])
    assert chain.fault(STREAM, VERSION, name, PREVIOUS, state) is None


@pytest.mark.parametrize("name, schema", STORED)
def test_a_golden_file_shows_in_plain_text_what_its_state_holds(name: str, schema: int) -> None:
    file = golden(name, schema)
    sealed = chain.unseal(bytes.fromhex(file["state"]), name)
    public, personal = codec.split(sealed.payload, name)
    assert (public.decode(), personal.decode()) == (file["public"], file["personal"])
    assert json.loads(file["public"])["schema"] == schema


@pytest.mark.parametrize("name, schema", CURRENT)
def test_an_event_is_stored_as_it_always_was(name: str, schema: int) -> None:
    file = golden(name, schema)
    assert {part: file[part] for part in ("public", "personal", "state")} == stored(name)


@pytest.mark.parametrize("name, schema", STORED)
def test_a_shape_changes_with_its_schema_only(name: str, schema: int) -> None:
    message = f"the shape of {name} has changed: raise its schema and add an upcast"
    assert golden(name, schema)["shape"] == shape_of(shape(name, schema)), message


@pytest.mark.parametrize("name, schema", STORED)
def test_the_description_fits_what_is_stored(name: str, schema: int) -> None:
    file, described = golden(name, schema), describe(name, schema)
    for part in ("public", "personal"):
        assert bool(file[part]) == (described[part] is not None)
        if file[part]:
            assert fits(json.loads(file[part]), described[part]) == []


def fits(value: Any, schema: dict[str, Any]) -> list[str]:
    """What in an object a schema does not know, or misses: names only, all the way down."""
    definitions = schema.get("$defs", {})

    def walk(held: Any, part: dict[str, Any], path: str) -> list[str]:
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        if "properties" not in part or not isinstance(held, dict):
            return []
        found = [f"{path}{n} is not known" for n in held if n not in part["properties"]]
        found += [f"{path}{n} is missing" for n in part.get("required", []) if n not in held]
        for name, inner in part["properties"].items():
            if name in held:
                for option in inner.get("anyOf", [inner]):
                    found += walk(held[name], option, f"{path}{name}.")
        return found

    return walk(value, schema, "")


@pytest.mark.parametrize("name", REGISTRY)
def test_an_example_leaves_no_field_out(name: str) -> None:
    """A field at its default is not stored, so it would not be seen to change."""
    assert unset(EXAMPLES[name]) == []
    assert unset(META) == []


def unset(value: Any, path: str = "") -> list[str]:
    """The fields of a struct, and of structs inside, that hold their default or nothing."""
    if not isinstance(value, msgspec.Struct):
        return []
    found = []
    for field in msgspec.structs.fields(value):
        held = getattr(value, field.name)
        if held is None or held == field.default or held in ({}, (), ""):
            found.append(f"{path}{field.name}")
        found += unset(held, f"{path}{field.name}.")
    return found


class Before(e.Event, frozen=True, omit_defaults=True):
    a: int
    b: str = "x"


@pytest.mark.parametrize(
    "fields",
    [
        [("a", int)],
        [("a", int), ("b", str, "y")],
        [("a", str), ("b", str, "x")],
        [("a", int | None), ("b", str, "x")],
        [("b", str, "x")],
        [("a", int), ("b", str, "x"), ("c", int, 0)],
        [("a", int), ("b", e.Pins, e.Pins())],
    ],
)
def test_any_change_of_a_shape_is_seen(fields: list[Any]) -> None:
    def shape(cls: type[msgspec.Struct]) -> Any:
        return json.loads(json.dumps(shape_of(cls)).replace(cls.__name__, "Event"))  # type: ignore[arg-type]

    def event(name: str, fields: list[Any]) -> type[msgspec.Struct]:
        return msgspec.defstruct(name, fields, bases=(e.Event,), frozen=True, omit_defaults=True)

    assert shape(event("After", fields)) != shape(Before)
    assert shape(event("Same", [("a", int), ("b", str, "x")])) == shape(Before)
