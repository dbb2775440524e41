"""What tests of the web application and of its client share.

A test file's own fixture of a name takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dee_es import Engine
from tests.support.engines import BACKENDS, database_url, open_engine, outreach, publish_basics
from tests.support.storage.postgres import new_database
from tests.support.web.application import MEANT, Client, served, with_users
from tests.support.web.site import Site
from tests.support.web.world import furnish, open_world


@pytest.fixture(scope="module", params=BACKENDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_url: str
) -> Iterator[Site]:
    """For tests that only read."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("pages")
        url = database_url(
            request.param, folder, lambda: stack.enter_context(new_database(postgres_url))
        )
        engine = stack.enter_context(open_world(url))
        world = furnish(engine)
        yield Site(world, stack.enter_context(served(engine)))


@pytest.fixture
def acting() -> Iterator[Site]:
    """For tests that change something."""
    with open_world() as engine:
        world = furnish(engine)
        with served(engine) as client:
            yield Site(world, client)


# --- the API --------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a file, with a plan."""
    with open_engine(f"sqlite:///{tmp_path / 'dee.db'}") as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    """A program on a server without users."""
    with served(engine, **MEANT) as client:
        yield client


# --- who comes in ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    """An engine in memory, with a plan, for a whole file of tests."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        yield engine


@pytest.fixture
def local(shared: Engine) -> Iterator[Client]:
    """A server without users."""
    with served(shared) as client:
        yield client


@pytest.fixture
def guarded(shared: Engine, tmp_path: Path) -> Iterator[tuple[Client, dict[str, str]]]:
    """A server with users, and a token of each role."""
    settings, tokens = with_users(tmp_path)
    with served(shared, settings) as client:
        yield client, tokens
