"""Verification shared among processes: the others need the database, and neither engine nor key."""

from __future__ import annotations

import atexit
from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dee_es.bootstrap.databases import open_store
from dee_es.config import EngineConfig
from dee_es.core.evidence.chunk_check import Chunk, ChunkReport
from dee_es.engine.auditing.chunks import ChunkReader
from dee_es.ports import EventStore

if TYPE_CHECKING:
    from dee_es.adapters.processes import Work


def share_checks(
    config: EngineConfig, store: EventStore, chunks: Iterable[Chunk], workers: int
) -> Generator[ChunkReport, None, None]:
    """Have the log checked by several processes, this one among them; reports come in order."""
    # Imported late: few commands need it, and it takes others with it.
    from dee_es.adapters.processes import shared

    begin = partial(_checker, replace(config, create=False))
    return shared(begin, chunks, workers, ChunkReader(store).check)


def _checker(config: EngineConfig) -> Work[Chunk, ChunkReport]:
    """What a process that verifies for another one does with a chunk."""
    store = open_store(config).store
    atexit.register(store.close)
    return ChunkReader(store).check
