"""Whoever does not read what was sent to them."""

from __future__ import annotations

import select
import socket

import pytest

from dee_es.web import server
from dee_es.web.settings import WebSettings


def test_a_connection_that_takes_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_UNREAD_MS", 500, raising=False)
    with (
        server._listening(WebSettings(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        accepted.setblocking(False)
        taken = True
        while taken:
            try:
                accepted.send(b"x" * 65_536)
            except BlockingIOError:
                taken = False
        waiting = select.poll()
        waiting.register(accepted, select.POLLERR)
        assert waiting.poll(10_000), "it waits for ever"
        with pytest.raises(TimeoutError):
            accepted.send(b"x")
