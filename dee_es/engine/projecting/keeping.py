"""Bringing projections level before anybody waits for them, in pieces that hold nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from dee_es.core.values import is_number
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.models import CaughtUp
from dee_es.engine.projecting.pace import check_share
from dee_es.engine.projecting.projector import PAGE, PIECE, AnyProjection
from dee_es.errors import DeeError, InvalidInput

_LONGEST_REST_S: Final = 1.0
"""So that whoever kept a piece waiting for the log does not keep the next one waiting as well."""
OnTrouble = Callable[[str, DeeError], object]


class Keeper(Context, frozen=True):
    """Catches projections up for a while, or again and again."""

    def catch_up(self, wanted: AnyProjection, within_s: float | None) -> CaughtUp:
        """Fold until the projection is level with the log as it is now, or the time is over."""
        ends = None if within_s is None else time.monotonic() + within_s
        standing = self.views.standing()
        _, row = self.projector.readable(wanted, standing.builds)
        more = True
        # Whoever grants any time gets one piece at least, so that asking again leads somewhere.
        while more and row.position < standing.head and within_s != 0:
            _, row, more = self.projector.fold_page(wanted, PAGE if ends is None else PIECE)
            if ends is not None and time.monotonic() >= ends:
                break
        return CaughtUp(name=wanted.name, position=row.position, head=standing.head)

    def keep_level(
        self, stop: threading.Event, throttle: float, every_s: float, on_trouble: OnTrouble
    ) -> None:
        """See `Projections.keep_level`."""
        check_share("throttle", throttle)
        if not is_number(every_s) or not 0 < every_s <= threading.TIMEOUT_MAX:
            raise InvalidInput("every_s", "must be a number of seconds above 0")
        troubled: set[str] = set()
        while not stop.is_set():
            for wanted in self.projector.projections:
                try:
                    self._level(wanted, stop, throttle)
                    troubled.discard(wanted.name)
                except DeeError as error:
                    if wanted.name not in troubled:
                        troubled.add(wanted.name)
                        on_trouble(wanted.name, error)
            stop.wait(every_s)

    def _level(self, wanted: AnyProjection, stop: threading.Event, throttle: float) -> None:
        standing = self.views.standing()
        _, row = self.projector.readable(wanted, standing.builds)
        more = True
        while more and row.position < standing.head and not stop.is_set():
            began = time.monotonic()
            _, row, more = self.projector.fold_page(wanted, PIECE)
            took = time.monotonic() - began
            stop.wait(min(took * (1 / throttle - 1), _LONGEST_REST_S))
