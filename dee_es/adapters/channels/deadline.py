"""A bound on a whole conversation: whoever sends a byte now and then keeps every single read within
its time, and would hold up a tick for ever."""

from __future__ import annotations

import io
import socket
import time
from typing import Any, Final

CONVERSATION: Final = 4
"""How many times the timeout of one network operation a whole conversation may take."""
CHUNK: Final = 16 * 1024
"""Most bytes that are sent at once."""


class Deadline:
    """The moment by which everything on a socket has to be done, `timeout_s` for each operation."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.until = 0.0
        self.begin()

    def begin(self, operations: int = CONVERSATION) -> None:
        """A conversation begins now, that may take as long as so many operations."""
        self.until = time.monotonic() + operations * self.timeout_s

    def arm(self, sock: socket.socket) -> None:
        """Let the socket's next operation take no longer than is left; one that never waits is let
        be. Raises `TimeoutError` if nothing is left."""
        if sock.gettimeout() == 0:
            return
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the conversation took too long")
        sock.settimeout(min(self.timeout_s, left))


class DeadlineReader(io.RawIOBase):
    """What comes through a socket, until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As `RawIOBase.readinto`; raises `TimeoutError`."""
        self._deadline.arm(self._sock)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Leave the socket to whoever else has it."""
        self._raw.close()
        super().close()


class DeadlineSocket:
    """As much of a connected socket as `http.client` uses."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        """As `socket.sendall`, in pieces: over TLS each has the timeout to itself."""
        for start in range(0, len(data), CHUNK):
            self._deadline.arm(self._sock)
            self._sock.sendall(data[start : start + CHUNK])

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes, for reading bytes."""
        return io.BufferedReader(DeadlineReader(self._sock, self._deadline))

    def close(self) -> None:
        """Close the socket once nobody reads from it any more."""
        self._sock.close()
