"""Heads of requests that come slowly, or with others, on a server's own connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from dee_es.web import connections
from dee_es.web.connections import BoundedConnection

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    if scope["path"] == "/body":
        await request.body()
    names = " ".join(sorted(request.headers))
    await PlainTextResponse("hello", headers={"x-names": names})(scope, receive, send)


def converse(talk: Conversation) -> None:
    """Talk to a server whose connections are bounded."""

    async def both() -> None:
        config = uvicorn.Config(app, http=BoundedConnection, ws="none", log_level="critical")
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: BoundedConnection(config=config, server_state=state, app_state={}),
            "127.0.0.1",
            0,
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            async with asyncio.timeout(20):
                await talk(reader, writer)
            writer.close()

    asyncio.run(both())


async def _answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"hello")


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: he"])
def test_who_does_not_end_a_head_in_time_is_left(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        told = await reader.read()
        assert told.startswith(b"HTTP/1.1 408 ")

    converse(talk)


def test_the_second_head_is_waited_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        assert (await _answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET / HT")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    converse(talk)


def test_who_only_pauses_between_requests_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(HEAD)
            assert (await _answer(reader)).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.3)

    converse(talk)


@pytest.mark.parametrize("piece", [b"x-more: x\r\n", b"x" * 1_000])
def test_a_head_may_have_so_many_bytes(piece: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = b"GET / HTTP/1.1\r\nHost: here\r\nx-first: "
        fits = piece * ((connections.LIMIT - 1_000) // len(piece))
        writer.write(begun + fits + b"\r\n\r\n")
        assert (await _answer(reader)).startswith(b"HTTP/1.1 200 ")
        # No more than is read, or the connection is reset before the answer can be.
        writer.write(begun + piece * (connections.LIMIT // len(piece) + 1))
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    converse(talk)


def test_a_long_body_is_no_long_head() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 4 * connections.LIMIT
        head = f"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {size}\r\n\r\n"
        writer.write(head.encode() + b"x" * size + HEAD)
        assert (await _answer(reader)).startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 200 " in await _answer(reader)

    converse(talk)


CHUNKED = b"POST %s HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", [b"/body", b"/"])
@pytest.mark.parametrize("piece", [b"x-more: x\r\n", b"x" * 1_000])
def test_what_follows_a_body_has_no_more_bytes_than_a_head(path: bytes, piece: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED % path + b"1\r\nx\r\n0\r\n")
        if path == b"/":
            await _answer(reader)
        for _ in range(3):
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(piece * (connections.LIMIT // len(piece) // 2))
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    converse(talk)


def test_what_follows_a_body_is_no_part_of_the_head() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED % b"/body" + b"1\r\nx\r\n0\r\nx-late: 1\r\n\r\n" + HEAD)
        assert b"x-names: host transfer-encoding\r\n" in await _answer(reader)
        assert b"x-names: host\r\n" in await _answer(reader)

    converse(talk)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (HEAD, b"\r\n"),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n", b"xxx"),
    ],
)
def test_no_byte_keeps_a_connection_for_ever(
    monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        assert (await _answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.write(then)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    converse(talk)


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_after_an_upgrade_that_nobody_grants_the_connection_is_closed(
    protocol: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asking = HEAD[:-2] + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(asking)
        told = await reader.read()
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in told

    converse(talk)
    assert not caplog.records


@pytest.mark.parametrize("bad", [b"no request\r\n\r\n", b"GET /" + b"x" * connections.LIMIT])
def test_no_refusal_passes_for_the_answer_to_the_request_before(bad: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.replace(b"/", b"/slow", 1) + bad)
        assert await reader.read() == b""

    converse(talk)


@pytest.mark.parametrize("bad", [b"no request\r\n\r\n", CHUNKED % b"/body" + b"zz\r\n"])
def test_what_is_no_request_is_told_so(bad: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bad)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    converse(talk)
