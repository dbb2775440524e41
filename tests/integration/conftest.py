"""What tests of the pages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.web import served
from tests.support.web_site import Site
from tests.support.web_world import furnish, open_world


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Site]:
    """For tests that only read."""
    folder = tmp_path_factory.mktemp("pages")
    url = ":memory:" if request.param == "memory" else f"sqlite:///{folder / 'dee.db'}"
    with open_world(url) as engine:
        world = furnish(engine)
        with served(engine) as client:
            yield Site(world, client)


@pytest.fixture
def acting() -> Iterator[Site]:
    """For tests that change something."""
    with open_world() as engine:
        world = furnish(engine)
        with served(engine) as client:
            yield Site(world, client)
