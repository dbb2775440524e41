"""The master key: 32 bytes that wrap every other key, kept in a file or in the environment."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

from dee_es.adapters.keys.source import KeySource
from dee_es.errors import InvalidInput

MASTER_KEY_BYTES: Final = 32
_FORBIDDEN_BITS: Final = stat.S_IRWXG | stat.S_IRWXO


class MasterKey:
    """A master key that does not show itself in reprs, logs and tracebacks."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != MASTER_KEY_BYTES:
            raise InvalidInput("master key", f"must have {MASTER_KEY_BYTES} bytes")
        self._value = value

    def reveal(self) -> bytes:
        """The key itself."""
        return self._value

    def __repr__(self) -> str:
        return "MasterKey(...)"


def new_master_key(source: KeySource = os.urandom) -> MasterKey:
    """A master key that nobody has seen."""
    return MasterKey(source(MASTER_KEY_BYTES))


def parse_master_key(text: str, field: str = "DEE_MASTER_KEY") -> MasterKey:
    """Read a master key from base64 text; raises `InvalidInput` naming `field`, never the text."""
    try:
        value = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != MASTER_KEY_BYTES:
        # `from None` everywhere: what was decoded must not reach a traceback.
        raise InvalidInput(field, f"must be the base64 text of {MASTER_KEY_BYTES} bytes") from None
    return MasterKey(value)


def load_master_key(path: str | Path) -> MasterKey:
    """Read the master key from a file that only its owner may read.

    Raises `InvalidInput` if the file is missing, readable by others, or holds no master key.
    """
    field = f"master key file {path}"
    try:
        # The rights are those of the file that is read, not of what the name meant before.
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidInput(field, "is not a regular file")
            if os.name == "posix" and mode & _FORBIDDEN_BITS:
                raise InvalidInput(
                    field, f"has mode {stat.S_IMODE(mode):04o}; others may use it: chmod 600 it"
                )
            text = file.read(1024).decode("ascii", "replace")
    except FileNotFoundError as error:
        raise InvalidInput(
            field,
            "is not there; nothing personal can be read without it: put the copy of it back, or "
            "name where it is (DEE_MASTER_KEY_FILE)",
        ) from error
    except OSError as error:
        raise InvalidInput(field, f"cannot be read: {error.strerror}") from error
    return parse_master_key(text, field)


def create_master_key(
    path: str | Path, source: KeySource = os.urandom, key: MasterKey | None = None
) -> MasterKey:
    """Make a master key, or take the one given, and write it to a new file of mode 0600, durably.

    Raises `InvalidInput` if the file is there already: replacing a master key would make all that
    it wraps unreadable.
    """
    path = Path(path)
    field = f"master key file {path}"
    key = key or new_master_key(source)
    # Written aside and linked: nobody ever reads half a key, and an existing file is never touched.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        _write_private(aside, base64.b64encode(key.reveal()) + b"\n")
        try:
            os.link(aside, path)
        finally:
            aside.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise InvalidInput(field, "exists already and is never replaced") from None
    except OSError as error:
        raise InvalidInput(field, f"cannot be written: {error.strerror}") from error
    return key


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    # Without this the file's name may be lost with the power, and the key with it.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
