"""A bound on a whole conversation: how long the next operation may take, and when it is over."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from dee_es.adapters.channels.deadline import CHUNK, Deadline, DeadlineSocket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_each_operation_has_its_time_as_long_as_the_conversation_has(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, _ = ends
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline(10)
    deadline.arm(near)
    assert near.gettimeout() == 10
    now += 35
    deadline.arm(near)
    assert near.gettimeout() == 5
    for _ in range(2):
        now += 5
        with pytest.raises(TimeoutError, match="took too long"):
            deadline.arm(near)
    deadline.begin(1)
    now += 9
    deadline.arm(near)
    assert near.gettimeout() == 1
    near.setblocking(False)
    now += 99
    deadline.arm(near)
    assert near.gettimeout() == 0, "one that never waits needs no bound"


def test_nothing_is_sent_or_read_when_the_time_is_over(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = ends
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bounded = DeadlineSocket(near, Deadline(10))
    with bounded.makefile("rb") as reading:
        bounded.sendall(b"a" * (CHUNK + 1))
        assert far.recv(CHUNK + 1, socket.MSG_WAITALL) == b"a" * (CHUNK + 1)
        far.sendall(b"b\nc\n")
        assert reading.readline() == b"b\n"
        now += 40
        assert reading.readline() == b"c\n", "that had come before"
        far.sendall(b"d\n")
        with pytest.raises(TimeoutError, match="took too long"):
            reading.readline()
        with pytest.raises(TimeoutError, match="took too long"):
            bounded.sendall(b"e")
    assert near.fileno() >= 0, "whoever reads leaves it to whoever else has it"
    bounded.close()
    assert near.fileno() == -1
