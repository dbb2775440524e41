"""What the server does beside answering: projections are brought level before somebody waits, and
a master key that was replaced is noticed though nobody asks for anything."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dee_es.engine.facade import EngineApi
from dee_es.errors import DeeError, MasterKeyRotated

_log: Final = logging.getLogger("dee_es.web")
_THROTTLE: Final = 0.3
"""Share of the time to work while projections are behind."""
_KEY_EVERY_S: Final = 1.0


@contextmanager
def kept_level(engine: EngineApi, throttle: float = _THROTTLE) -> Iterator[None]:
    """Keep projections level with the log in a thread of their own, inside the block."""

    def keep(stop: threading.Event) -> None:
        try:
            engine.projections.keep_level(stop, throttle=throttle, on_trouble=_troubled)
        except Exception as error:
            # The text of an unforeseen error may hold anything; pages still catch up themselves.
            _log.error("keeping_level_failed", extra={"error": type(error).__name__})

    with _beside("dee-projections", keep):
        yield


@contextmanager
def master_key_watched(
    engine: EngineApi, on_rotated: Callable[[MasterKeyRotated], object]
) -> Iterator[None]:
    """Tell, once, if the master key is replaced inside the block: whoever holds the former one can
    take nothing in any more, nor read what is personal."""

    def watch(stop: threading.Event) -> None:
        while not stop.wait(_KEY_EVERY_S):
            try:
                engine.keys.check()
            except MasterKeyRotated as error:
                on_rotated(error)
                return
            except DeeError:
                # Whoever asks for something is told; it may be back in a moment.
                continue

    with _beside("dee-master-key", watch):
        yield


@contextmanager
def _beside(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Work in a thread inside the block, at whose end it is told to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _troubled(name: str, error: DeeError) -> None:
    _log.warning("projection_behind", extra={"projection": name, "error": type(error).__name__})
