"""Connections to PostgreSQL that give up on a server that says nothing any more, and do not sleep
at once on one that answers soon.

The server's own timeouts end what takes too long, as long as the server runs; TCP finds out that
its machine is gone. Neither helps where it is there and does not go on: stopped, without its disk,
or behind a proxy that lost it.

Most answers take less than half a millisecond. To put a thread to sleep and its processor with it,
and to wake both, takes a good part of that, and what it goes on with has left the caches meanwhile.
So the main thread stays awake for a moment. Other threads come in numbers: one that stayed awake
would keep the interpreter from those that have something to do.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from psycopg.rows import Row
from psycopg.waiting import Ready, Wait

from dee_es.ports import beside
from dee_es.ports.beside import Awaited

ResultT = TypeVar("ResultT")
_LOOK_S: Final = 0.1
_AWAKE_S: Final = 0.0005
"""How long an answer is looked for without sleep."""
_MAIN: Final = threading.main_thread().ident


class Unanswered(psycopg.OperationalError):
    """The server said nothing for too long; the connection was closed."""


class PatientConnection(psycopg.Connection[Row]):
    """A connection that waits for each sign of life for `patience_s` seconds, or for ever."""

    patience_s: float | None = None

    def told_unasked(self) -> bool:
        """Whether the server has said anything that nobody asked for: as a rule, that it ends."""
        return self.closed or _readable(self.fileno())

    def wait(
        self,
        gen: Generator[Any, Any, ResultT],
        interval: float = _LOOK_S,
        *args: Any,
        **options: Any,
    ) -> ResultT:
        """See `psycopg.Connection.wait`; raises `Unanswered`, and closes the connection, as Ctrl-C
        does."""
        watched = gen
        try:
            if beside.takes_turns():
                watched = _looking(watched, partial(_in_turns, self.pgconn.socket))
                # To wait here would keep all the others waiting.
                interval = 0
            elif threading.get_ident() == _MAIN:
                watched = _looking(watched, partial(_soon, self.pgconn.socket))
            if self.patience_s is not None:
                watched = _watched(watched, self.patience_s)
            return super().wait(watched, interval, *args, **options)
        except BaseException as error:
            if isinstance(error, Unanswered) or not isinstance(error, Exception):
                self._break_off(gen)
            raise

    def _break_off(self, gen: Generator[Any, Any, Any]) -> None:
        """What has been waited for is not taken in any more: nothing else may be asked after it,
        and a pipeline that is left as if it had been would raise an error instead of Ctrl-C."""
        self.close()
        with suppress(psycopg.Error):
            gen.close()


def _readable(socket: int) -> bool:
    if sys.platform == "win32":
        return bool(select.select([socket], [], [], 0)[0])
    look = select.poll()
    look.register(socket, select.POLLIN)
    return bool(look.poll(0))


def _looking(
    gen: Generator[Any, Any, ResultT], look: Callable[[Wait], int]
) -> Generator[Any, Any, ResultT]:
    """What psycopg waits with, which waits only where a look has found nothing ready."""
    try:
        wanted = next(gen)
        while True:
            wanted = gen.send(look(wanted) or (yield wanted))
    except StopIteration as end:
        result: ResultT = end.value
        return result


def _in_turns(socket: int, wanted: Wait) -> int:
    """Have other work go on until there is nothing to wait for; for what the socket is ready is
    still to be asked."""
    beside.wait_for(Awaited(socket, bool(wanted & Wait.R), bool(wanted & Wait.W)))
    return 0


def _soon(socket: int, wanted: Wait) -> int:
    """For what of that the socket is ready within a moment, as psycopg is told; 0 for nothing."""
    if sys.platform == "win32":
        return 0
    look = select.poll()
    reads = select.POLLIN if wanted & Wait.R else 0
    look.register(socket, reads | (select.POLLOUT if wanted & Wait.W else 0))
    until = time.perf_counter() + _AWAKE_S
    while not (found := look.poll(0)):
        # The server may have no other processor than this one.
        os.sched_yield()
        if time.perf_counter() >= until:
            return 0
    ((_, event),) = found
    # What else it can tell, such as that the connection is gone, is found out by reading.
    other = Ready.R if event & ~select.POLLOUT else 0
    return other | (Ready.W if event & select.POLLOUT else 0)


def _watched(gen: Generator[Any, Any, ResultT], patience_s: float) -> Generator[Any, Any, ResultT]:
    """What psycopg waits with: it is sent what it can read or write, or 0 now and then."""
    try:
        wanted = next(gen)
        heard = time.monotonic()
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                heard = now
            elif now - heard >= patience_s:
                raise Unanswered(f"the server did not answer within {patience_s:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: ResultT = end.value
        return result
