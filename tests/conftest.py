"""What every test shares: hypothesis profiles, the `full` marker and the PostgreSQL fixtures.

`scripts/test --full` sets DEE_TEST_FULL, which selects the counts of the requirements; without it
the counts are small enough for the whole suite to end within 15 minutes.
"""

from __future__ import annotations

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.support.counts import FULL
from tests.support.storage.postgres import empty_postgres, fresh_postgres, postgres_url

__all__ = ["empty_postgres", "fresh_postgres", "postgres_url"]

# A shell has what it starts in the background ignore Ctrl-C, and so would every process that a
# test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _profile(name: str, examples: int) -> None:
    settings.register_profile(
        name,
        max_examples=examples,
        # A busy machine is not a fault of the code under test.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
        # The same examples each time where a failure must be seen again by somebody else.
        derandomize=os.environ.get("CI") == "true",
    )


_profile("quick", 50)
_profile("full", 1_000)
settings.load_profile("full" if FULL else "quick")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: modules and ten thousand tests."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `full` unless the full counts were asked for."""
    if FULL:
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
