"""How long threads keep their turn while results of other processes are taken in."""

from __future__ import annotations

import sys
import threading

from dee_es.adapters.processes import _short_turns


def test_blocks_may_end_in_another_order() -> None:
    ordinary = sys.getswitchinterval()
    begun, end = threading.Event(), threading.Event()

    def other() -> None:
        with _short_turns():
            begun.set()
            end.wait()

    thread = threading.Thread(target=other)
    with _short_turns():
        thread.start()
        begun.wait()
    assert sys.getswitchinterval() < ordinary
    end.set()
    thread.join()
    assert sys.getswitchinterval() == ordinary
