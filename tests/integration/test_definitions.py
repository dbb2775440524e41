"""Definitions asked for by kind and id."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.errors import InvalidInput
from tests.support.engines import open_engine


@pytest.mark.parametrize("kind", ["plan", "nope", "", None, ["template"]])
def test_a_kind_of_definition_that_there_is_not(kind: Any) -> None:
    with open_engine(":memory:") as engine:
        for ask in (
            lambda: engine.list_definitions(kind),
            lambda: engine.get_definition(kind, "x"),
        ):
            with pytest.raises(InvalidInput, match="kind: must be one of template, script"):
                ask()
        assert engine.list_definitions("template") == {}
