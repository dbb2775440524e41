"""Files that are sent to this server: taken in as they come, into a file without a name."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from dee_es.web.problems import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_SPOOLED: Final = 1024 * 1024
_MOST_FIELDS: Final = 16
_MOST_TEXT: Final = 64 * 1024
"""Most bytes of all fields of a form beside its file."""
_BUFFER: Final = 256 * 1024


class Reading(io.RawIOBase):
    """One reader of a file that others read too: it has a place of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self.position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer from where this reader is."""
        data = os.pread(self._descriptor, len(buffer), self.position)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def close(self) -> None:
        """Let this reader go, not the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received whole; `digest` is the SHA-256 of its bytes."""

    file: BinaryIO
    size: int
    digest: bytes

    def shared(self) -> Upload:
        """The same file for somebody else, who closes it apart."""
        return Upload(os.fdopen(os.dup(self.file.fileno()), "rb"), self.size, self.digest)

    def reading(self) -> tuple[BinaryIO, Reading]:
        """The file from its beginning, and what tells how far it was read."""
        raw = Reading(self.file.fileno())
        return cast(BinaryIO, io.BufferedReader(raw, _BUFFER)), raw

    def close(self) -> None:
        """Let the file go."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class Form:
    """A form with a file: its other fields by name, and the file."""

    fields: Mapping[str, str]
    upload: Upload


class _Spool:
    """Takes bytes in and puts them into a file, in memory that does not grow."""

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile("w+b"))  # noqa: SIM115 - an upload's
        self._digest, self._size = hashlib.sha256(), 0
        self._waiting = bytearray()

    def take(self, data: bytes) -> None:
        self._waiting += data

    async def settle(self, least: int = _SPOOLED) -> None:
        """Write what waits, once it is as much as that."""
        if len(self._waiting) >= least:
            await run_in_threadpool(self._write, bytes(self._waiting))
            self._waiting.clear()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._file.write(data)

    async def ended(self) -> Upload:
        await self.settle(0)
        await run_in_threadpool(self._file.flush)
        return Upload(self._file, self._size, self._digest.digest())

    def close(self) -> None:
        self._file.close()


class _FormReader:
    """Reads a form as it comes: fields into memory, the one file into a spool."""

    def __init__(self, boundary: bytes, file_field: str, spool: _Spool) -> None:
        self._file_field, self._spool = file_field, spool
        self._header, self._value, self._said = b"", b"", b""
        self._name: str | None = None
        self._text = bytearray()
        self._texts = 0
        self.fields: dict[str, str] = {}
        self.has_file = self.complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises `Refused` for what is no form of ours."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise _unreadable("it is not multipart/form-data as it says") from None

    def _begin(self) -> None:
        self._header, self._value, self._said = b"", b"", b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._said = self._value
        self._header, self._value = b"", b""

    def _on_headers(self) -> None:
        kind, options = parse_options_header(self._said)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _unreadable("a part has no name")
        if name == self._file_field:
            if self.has_file:
                raise _unreadable(f"there are two files {name}")
            self.has_file, self._name = True, None
            return
        if name in self.fields or len(self.fields) >= _MOST_FIELDS:
            raise _unreadable("a field is there twice, or there are too many")
        self._name, self._text = name, bytearray()
        self.fields[name] = ""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._spool.take(data[start:end])
            return
        self._texts += end - start
        if self._texts > _MOST_TEXT:
            raise _unreadable(f"its fields are longer than {_MOST_TEXT:,} bytes")
        self._text += data[start:end]

    def _on_part_end(self) -> None:
        if self._name is not None:
            try:
                self.fields[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise _unreadable("a field is not UTF-8") from None

    def _on_end(self) -> None:
        self.complete = True


async def received(request: Request, at_once: int) -> Upload:
    """Take in a body that is a file as it comes, in memory that does not grow.

    Raises `Refused` if `at_once` others are on their way.
    """
    async with _Place(request, at_once):
        spool = _Spool()
        try:
            async for chunk in request.stream():
                spool.take(chunk)
                await spool.settle()
            return await spool.ended()
        except BaseException:
            spool.close()
            raise


async def received_form(request: Request, at_once: int, file_field: str) -> Form:
    """The same for a form (`multipart/form-data`) with a file under `file_field`.

    Raises `Refused` also for a form that cannot be read, is cut short, or has no such file.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise _unreadable("it names no boundary")
    async with _Place(request, at_once):
        spool = _Spool()
        try:
            reader = _FormReader(boundary, file_field, spool)
            async for chunk in request.stream():
                reader.feed(chunk)
                await spool.settle()
            if not reader.complete:
                raise _unreadable("it is cut short")
            if not reader.has_file:
                raise Refused(400, "BadRequest", f"the form has no file {file_field}")
            return Form(reader.fields, await spool.ended())
        except BaseException:
            spool.close()
            raise


class _Place:
    """One of the places for files that are on their way."""

    def __init__(self, request: Request, at_once: int) -> None:
        self._state, self._at_once = request.app.state, at_once

    async def __aenter__(self) -> None:
        under_way = getattr(self._state, "uploads", 0)
        if under_way >= self._at_once:
            raise Refused(
                429, "TooManyUploads", "other files are on their way", {"Retry-After": "5"}
            )
        self._state.uploads = under_way + 1

    async def __aexit__(self, *error: object) -> None:
        self._state.uploads -= 1


def _unreadable(why: str) -> Refused:
    return Refused(400, "BadRequest", f"the form cannot be read: {why}", {"Connection": "close"})
