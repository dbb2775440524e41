"""Every type of step can be written in Python as it can in a file, by a builder of its own."""

from __future__ import annotations

import inspect

import pytest

from dee_es.core.builders import steps
from dee_es.core.steps import STEP_TYPES, AnyStep


@pytest.mark.parametrize("name, model", STEP_TYPES.items())
def test_every_type_has_a_builder_that_takes_its_fields(name: str, model: type[AnyStep]) -> None:
    fields = {field: each for field, each in model.model_fields.items() if field != "type"}
    parameters = inspect.signature(getattr(steps, name)).parameters
    assert list(parameters) == list(fields)
    needed = {name for name, each in parameters.items() if each.default is each.empty}
    assert needed == {field for field, each in fields.items() if each.is_required()}


def test_no_builder_is_for_a_type_that_there_is_not() -> None:
    own = [
        name
        for name, member in inspect.getmembers(steps, inspect.isfunction)
        if not name.startswith("_")
    ]
    assert sorted(own) == sorted(STEP_TYPES)
