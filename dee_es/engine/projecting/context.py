"""What everybody who looks after projections works with."""

from __future__ import annotations

from msgspec import Struct

from dee_es.engine.log.journal import Journal
from dee_es.engine.projecting.projector import Projector
from dee_es.ports import EventStore, Views, WallClock


class Context(Struct, frozen=True):
    """The log, the tables, and who folds the one into the other; each service adds its methods."""

    store: EventStore
    views: Views
    journal: Journal
    projector: Projector
    wall: WallClock
