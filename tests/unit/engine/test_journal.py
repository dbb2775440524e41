"""What is sealed is what the log says of it afterwards, of an erased contact too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dee_es.adapters.keys import ManagedKeys, open_memory_keys
from dee_es.core import events as e
from dee_es.core.evidence import chain
from dee_es.engine.log.journal import Journal
from dee_es.ports import StoredRow
from tests.support.system import SeededKeySource

META = e.Meta(3, "command", "tick", 0)
EVENT = e.RunPaused(personal=e.Seen({"email": "jane@example.com"}))


@pytest.fixture
def keys() -> Iterator[ManagedKeys]:
    opened = open_memory_keys(SeededKeySource(1))
    yield opened
    opened.close()


@pytest.mark.parametrize("erased", [False, True])
def test_what_was_sealed_is_read_as_it_was_told(keys: ManagedKeys, erased: bool) -> None:
    (key,) = keys.new_keys(1)
    if erased:
        keys.destroy(key)
    journal = Journal(keys)
    (sealed,) = journal.seal("run_a", 0, chain.GENESIS, [EVENT], META, key)
    (read,) = journal.open([StoredRow(1, "run_a", 1, sealed.name, sealed.state)])
    assert (sealed.event, sealed.meta) == (read.event, read.meta)
    assert (b"jane" in sealed.state, sealed.event.personal is None) == (False, erased)
