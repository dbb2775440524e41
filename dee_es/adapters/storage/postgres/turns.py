"""Who of a process may append next.

Whoever waits for the append lock at the server has a connection meanwhile. If many did, none would
be left for the one that has the lock, and may have to read before it gives it up. So of a process
one at a time asks for it, and the others wait here, before they take a connection.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import LockNotAvailable

from dee_es.ports import beside


class Turns:
    """Threads, and what they have begun beside other work, one at a time.

    In the order in which they came, as at the server: what was begun looks for its turn only now
    and then, and whoever is awake would always be faster.
    """

    def __init__(self) -> None:
        # The first has its turn; each holds its own lock until it has.
        self._line: deque[threading.Lock] = deque()
        self._moving = threading.Lock()

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[bool]:
        """A turn, behind all that the thread has begun; says whether it was free at once.

        Raises what the server does who has waited for a lock for too long, after `timeout_s`. What
        was begun waits as long as those before it, each of which has an end.
        """
        # A thread cannot wait for what it has begun itself and has yet to see through.
        beside.finish()
        mine = threading.Lock()
        try:
            with self._moving:
                self._line.append(mine)
                free = self._line[0] is mine
                if not free:
                    mine.acquire()
            if not free:
                _wait(mine, timeout_s)
            yield free
        finally:
            with self._moving:
                self._leave(mine)

    def _leave(self, mine: threading.Lock) -> None:
        """Let the next one have the turn, if this one had it; who gives up may have it by now."""
        had_it = bool(self._line) and self._line[0] is mine
        if mine in self._line:
            self._line.remove(mine)
        if had_it and self._line:
            self._line[0].release()


def _wait(mine: threading.Lock, timeout_s: float) -> None:
    if beside.takes_turns():
        # All that was begun before is over: so this was begun, and lets its thread go on.
        beside.holding(mine, lambda: None)
    elif not mine.acquire(timeout=timeout_s):
        raise LockNotAvailable("others of this process had the append lock for too long")
