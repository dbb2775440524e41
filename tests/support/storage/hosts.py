"""What else may be where a PostgreSQL server is expected: machines that say nothing or hang up,
and a pooler, which has fewer connections to the server than others have to it."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

_NO_TLS, _TLS = 80877103, b"S"
_BY_TRANSACTION = b"QS"
"""What a client sends that is answered by how its transaction stands: a query, and a sync."""


class Host:
    """A port of this machine, and how often somebody has connected to it."""

    def __init__(self, listening: socket.socket) -> None:
        self.port = str(listening.getsockname()[1])
        self.calls = 0


@contextmanager
def host(serve: Callable[[socket.socket], object]) -> Iterator[Host]:
    """A host that does this with everybody who connects, and hangs up afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made, over = Host(listening), threading.Event()

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                serve(client)

        def accept() -> None:
            while not over.is_set():
                if select.select([listening], [], [], 0.05)[0]:
                    made.calls += 1
                    client, _ = listening.accept()
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield made
        finally:
            over.set()
            accepting.join()


def says_nothing(client: socket.socket) -> None:
    """Take in what comes until the other side hangs up."""
    while client.recv(65536):
        pass


def hangs_up(client: socket.socket) -> None:
    """Nothing else."""


def begins_tls(client: socket.socket) -> None:
    """Agree to TLS, and to nothing that follows."""
    client.recv(8)
    client.sendall(_TLS)
    client.recv(65536)


class _Messages:
    """What comes from one side, message by message; a part of one waits for its rest."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Kind and content of those that are whole by now."""
        self._rest += data
        while len(self._rest) > 4 and len(self._rest) > (size := _length(self._rest[1:])):
            yield self._rest[:1], self._rest[5 : size + 1]
            self._rest = self._rest[size + 1 :]


def _length(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


class _Server:
    """A connection of the pooler's own, begun with what a client began with."""

    def __init__(self, path: str, startup: bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(startup)
        self.greeting, messages, ready = b"", _Messages(), False
        while not ready:
            for kind, content in messages.take(self.socket.recv(65536)):
                said = os.urandom(len(content)) if kind == b"K" else content
                self.greeting += kind + struct.pack("!I", len(said) + 4) + said
                ready = kind == b"Z"


class _Pooler:
    def __init__(self, url: str, by_transaction: bool) -> None:
        with psycopg.connect(url) as looking:
            self._path = f"{looking.info.host}/.s.PGSQL.{looking.info.port}"
        self._by_transaction = by_transaction
        self._idle: list[_Server] = []

    def serve(self, client: socket.socket) -> None:
        """Be the server for one client until it leaves."""
        startup = client.recv(65536)
        while _length(startup[4:]) in (_NO_TLS, _NO_TLS + 1):
            client.sendall(b"N")
            startup = client.recv(65536)
        with ExitStack() as held:
            server = _Server(self._path, startup)
            client.sendall(server.greeting)
            self._idle.append(server)
            if not self._by_transaction:
                self._idle.remove(server)
                held.enter_context(server.socket)
                self._relay(client, server, for_good=True)
                return
            while select.select([client], [], []) and client.recv(1, socket.MSG_PEEK):
                lent = self._idle.pop() if self._idle else _Server(self._path, startup)
                if not self._relay(client, lent, for_good=False):
                    lent.socket.close()
                    return
                self._idle.append(lent)

    def _relay(self, client: socket.socket, server: _Server, for_good: bool) -> bool:
        """Pass on what is said until a transaction is over; whether one is."""
        asked, answered, idle = _Messages(), _Messages(), False
        open_ends = 0
        while for_good or not (idle and open_ends == 0):
            for side in select.select([client, server.socket], [], [])[0]:
                data = side.recv(65536)
                if not data:
                    return False
                if side is client:
                    kinds = [kind for kind, _ in asked.take(data)]
                    open_ends += sum(kind in _BY_TRANSACTION for kind in kinds)
                    if b"X" in kinds:
                        return False
                    server.socket.sendall(data)
                else:
                    for kind, content in answered.take(data):
                        if kind == b"Z":
                            open_ends, idle = open_ends - 1, content == b"I"
                    client.sendall(data)
        return True


@contextmanager
def pooler(url: str, *, by_transaction: bool) -> Iterator[str]:
    """The URL of a database as it is reached through a pooler, which gives a connection to a
    client for each of its transactions, or for as long as it stays."""
    with host(_Pooler(url, by_transaction).serve) as made:
        yield psycopg.conninfo.make_conninfo(url, host="127.0.0.1", port=made.port)
