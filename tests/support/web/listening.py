"""The web application on a socket of this process, and a way to it on which answers get lost."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import uvicorn

from dee_es import Engine
from dee_es.client import DeeClient
from dee_es.web.app import create_app
from dee_es.web.settings import WebSettings
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import SETTINGS


@contextmanager
def listening(engine: Engine, settings: WebSettings = SETTINGS, port: int = 0) -> Iterator[str]:
    """The address of a server on an engine."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        # As `dee serve` does, or every answer waits 40 ms for a delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        app = create_app(engine, replace(settings, port=port))
        config = uvicorn.Config(app, lifespan="off", log_level="warning", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
            app.close()


class Lossy:
    """A way to a server on which answers are lost after their requests were done."""

    def __init__(self, upstream: str) -> None:
        self.move(upstream)
        self.lose: list[str] = []
        """Beginnings of requests whose next answer is lost."""
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def move(self, upstream: str) -> None:
        """Lead to another server from now on."""
        parts = httpx.URL(upstream)
        self._upstream = (parts.host, parts.port or 80)

    def close(self) -> None:
        """Let nobody through any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, near.makefile("rb") as reader:
            while (message := self._message(reader)) is not None:
                first = message.split(b" HTTP/1.1", 1)[0].decode()
                self.asked.append(first)
                with socket.create_connection(self._upstream) as far:
                    host = b"Host: %s:%d" % (self._upstream[0].encode(), self._upstream[1])
                    far.sendall(re.sub(rb"(?i)host: [^\r]*", host, message, count=1))
                    with far.makefile("rb") as answering:
                        answer = self._message(answering)
                for beginning in self.lose:
                    if first.startswith(beginning):
                        self.lose.remove(beginning)
                        return
                near.sendall(answer or b"")

    @staticmethod
    def _message(reader: Any) -> bytes | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return None
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + (reader.read(int(length[1])) if length else b"")


@contextmanager
def lossy_way() -> Iterator[tuple[Engine, DeeClient, Lossy]]:
    """An engine in memory with a plan `a`, and a client whose answers may get lost on the way."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        engine.publish_plan(outreach("a"))
        with listening(engine) as url:
            way = Lossy(url)
            with DeeClient(way.url) as client:
                yield engine, client, way
            way.close()
