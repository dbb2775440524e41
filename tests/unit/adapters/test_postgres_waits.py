"""What a connection looks for before it sleeps: an answer that comes soon, a server that left."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from psycopg.waiting import Ready, Wait

from dee_es.adapters import postgres_waits


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one connection: ours, and the server's."""
    ours, server = socket.socketpair()
    with ours, server:
        yield ours, server


def soon(ours: socket.socket, wanted: Wait) -> int:
    return postgres_waits._soon(ours.fileno(), wanted)


def test_it_is_told_what_of_that_can_be_done(line: tuple[socket.socket, socket.socket]) -> None:
    ours, server = line
    assert soon(ours, Wait.R) == 0
    assert soon(ours, Wait.W) == Ready.W
    assert soon(ours, Wait.RW) == Ready.W
    server.send(b"x")
    assert soon(ours, Wait.R) == Ready.R
    assert soon(ours, Wait.RW) == Ready.RW
    assert soon(ours, Wait.W) == Ready.W


def test_a_server_that_is_gone_is_to_be_read_from(
    line: tuple[socket.socket, socket.socket],
) -> None:
    ours, server = line
    server.close()
    assert soon(ours, Wait.R) == Ready.R


def test_it_looks_again_until_the_moment_is_over(
    line: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, server = line
    looks = 0

    def now() -> float:
        # The clock stands still until the answer has come, which is after some looks.
        nonlocal looks
        looks += 1
        if looks == 10:
            server.send(b"x")
        assert looks < 100, "what has come was not seen"
        return 0.0

    yielded = 0

    def give_way() -> None:
        nonlocal yielded
        yielded += 1

    monkeypatch.setattr(postgres_waits.time, "perf_counter", now)
    monkeypatch.setattr(postgres_waits.os, "sched_yield", give_way)
    assert soon(ours, Wait.R) == Ready.R
    assert looks == 10
    assert yielded == 9, "the server has its turn between two looks"
