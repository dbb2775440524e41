"""The outbox: emails and call scripts as files in a folder, to be looked at or picked up.

    outbox/2025-03-01/093000-run_abc...-intro-0f3a5c7e9b1d2f4a-1.eml

The folder of the day and the time of day are those of the tick, in UTC; then run, step, the first
16 digits of the idempotency key, and the attempt. The same attempt always has the same name and the
same bytes, so sending it again changes nothing. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from dee_es.adapters.channels.mime import build_mail
from dee_es.core.channels import CHANNELS
from dee_es.core.messages.message import message_id
from dee_es.errors import InvalidInput
from dee_es.ports import Action, ChannelResult, SendContext, Sent

_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_OURS: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS})
"""What is wrong with a folder that the settings should not name."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME_PART: Final = 60
"""Characters of a run or step id in a file name, which may have 255 bytes in all."""

_encoder: Final = msgspec.json.Encoder(order="deterministic")


class OutboxChannel:
    """Writes each email as `.eml`, which counts as delivered, and each call as `.json`, which stays
    pending: its outcome comes as a channel event.

    The folder is made when its parent exists. Files are readable by their owner only (0600), since
    they hold personal data. `fsync` makes each file survive a power cut, at the price of speed;
    without it, a delivered email may be lost with the machine.
    """

    name = "outbox"
    kinds = frozenset(CHANNELS)

    def __init__(self, folder: str | os.PathLike[str], *, fsync: bool = False) -> None:
        self._folder = Path(folder)
        self._fsync = fsync
        self._days: set[str] = set()

    def __repr__(self) -> str:
        return f"OutboxChannel({str(self._folder)!r})"

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Write the file.

        `failed` means that there is no file: problems of the folder may pass by themselves and are
        retryable, or are `ours` if it is not there or not ours to write to; those of the message
        are not. `unknown`, with `fsync` only, means that the file
        is there but might not survive a power cut.
        """
        try:
            moment = _moment(context.time_ms)
            content, suffix = _rendered(action, context, moment)
        except InvalidInput as error:
            return ChannelResult("failed", error=f"invalid {error.field}: {error.problem}")
        day = moment.strftime("%Y-%m-%d")
        try:
            self._write(day, _stem(action, moment) + suffix, content)
        except OSError as error:
            return self._problem("failed", error, retryable=True)
        try:
            self._settle(day)
        except OSError as error:
            return self._problem("unknown", error, retryable=False)
        own_id = message_id(action.key)
        return ChannelResult("pending" if suffix == ".json" else "delivered", own_id)

    def files_of(self, sent: Sent) -> list[str]:
        """See `LeavesFiles.files_of`."""
        moment = _moment(sent.time_ms)
        suffix = ".eml" if sent.channel == "email" else ".json"
        return [str(self._folder / moment.strftime("%Y-%m-%d") / (_stem(sent, moment) + suffix))]

    def close(self) -> None:
        """Nothing is held open between sends."""

    def _write(self, day: str, name: str, content: bytes) -> None:
        if day not in self._days:
            self._make(day)
        # Two threads or processes that write the same file must not share a half-written one.
        temporary = self._folder / day / f".{name}.{os.getpid()}-{threading.get_ident()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:  # somebody tidied the folder away meanwhile
            self._make(day)
            descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                if self._fsync:
                    file.flush()
                    os.fsync(descriptor)
            os.replace(temporary, self._folder / day / name)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make(self, day: str) -> None:
        # Not the folder's parents: a mistyped path should be a failure, not a new place for data.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / day).mkdir(mode=0o700, exist_ok=True)
        self._days.add(day)

    def _settle(self, day: str) -> None:
        """Make the file's name as durable as its content is."""
        if not self._fsync:
            return
        for folder in (self._folder / day, self._folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _problem(
        self, status: Literal["failed", "unknown"], error: OSError, *, retryable: bool
    ) -> ChannelResult:
        kind = errno.errorcode.get(error.errno or 0, type(error).__name__)
        detail = {"folder": str(self._folder), "problem": error.strerror or ""}
        ours = status == "failed" and error.errno in _OURS
        return ChannelResult(
            status, error=f"outbox {kind}", retryable=retryable, detail=detail, ours=ours
        )


def _moment(time_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(time_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise InvalidInput("time", "is outside of the years 1 to 9999") from None


def _stem(action: Action | Sent, moment: datetime) -> str:
    run, step = (
        _UNSAFE.sub("_", part)[:_MAX_NAME_PART] for part in (action.run_id, action.step_id)
    )
    return f"{moment:%H%M%S}-{run}-{step}-{action.key[:16]}-{action.attempt}"


def _rendered(action: Action, context: SendContext, moment: datetime) -> tuple[bytes, str]:
    """Content and suffix of the file. Raises `InvalidInput` naming the field."""
    if not _KEY.match(action.key):
        raise InvalidInput("key", "is not an idempotency key")
    if action.channel == "email":
        return build_mail(action, context).content, ".eml"
    if action.channel != "voice":
        raise InvalidInput("channel", "is not one that the outbox serves")
    if action.message.script is None:
        raise InvalidInput("script", "is missing")
    call = {
        "id": message_id(action.key),
        "key": action.key,
        "attempt": action.attempt,
        "run": action.run_id,
        "step": action.step_id,
        "time": moment.isoformat(),
        "to": action.message.to,
        "script": action.message.script,
    }
    return msgspec.json.format(_encoder.encode(call), indent=2) + b"\n", ".json"
