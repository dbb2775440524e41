"""The key that signs checkpoints: an Ed25519 key in a file of mode 0600."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dee_es.adapters.keys.master import sync_directory
from dee_es.core.evidence.signed_note import VerifierKey
from dee_es.errors import InvalidInput

_FORBIDDEN_BITS: Final = stat.S_IRWXG | stat.S_IRWXO


class FileSigner:
    """A `Signer` with its private key in memory; it does not show itself in reprs."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key()
        self.key = VerifierKey(name, self._public.public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`."""
        return self._private.sign(message)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """See `Signer.verify`."""
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class MemorySigners:
    """A `SignerSource` whose key is forgotten with the process, for databases in memory."""

    def __init__(self, seed: bytes | None = None) -> None:
        self._private = (
            Ed25519PrivateKey.generate()
            if seed is None
            else Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
        )

    def open(self, name: str, *, create: bool) -> FileSigner:
        """See `SignerSource.open`."""
        del create
        return FileSigner(name, self._private)


def create_signer(path: str | Path, name: str) -> FileSigner:
    """Make a key in a new file, and its public half beside it (`.pub`, as `NAME+ID+KEY`).

    Raises `InvalidInput` if the file is there already: it is never replaced.
    """
    path = Path(path)
    field = f"signing key file {path}"
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with _aside(path, text, 0o600) as aside:
            os.link(aside, path)
        sync_directory(path.parent)
    except FileExistsError:
        raise InvalidInput(field, "exists already and is never replaced") from None
    except OSError as error:
        raise InvalidInput(field, f"cannot be written: {error.strerror}") from error
    signer = FileSigner(name, private)
    _publish(path, signer)
    return signer


def load_signer(path: str | Path, name: str) -> FileSigner:
    """Read a key from a file that only its owner may read, and put its public half right if that
    can be written: whoever made the key may have been killed before. Raises `InvalidInput`."""
    path = Path(path)
    field = f"signing key file {path}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & _FORBIDDEN_BITS:
                raise InvalidInput(
                    field, f"has mode {stat.S_IMODE(mode):04o}; others may use it: chmod 600 it"
                )
            private = load_pem_private_key(file.read(4096), None)
    except OSError as error:
        raise InvalidInput(field, f"cannot be read: {error.strerror}") from error
    except (ValueError, TypeError):
        # `from None`: what was read must not reach a traceback.
        raise InvalidInput(field, "is no private key in PEM") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidInput(field, "is no Ed25519 key")
    signer = FileSigner(name, private)
    _publish(path, signer)
    return signer


def _publish(path: Path, signer: FileSigner) -> None:
    """See that the public half is beside the key; it appears whole or not at all."""
    public = path.with_name(path.name + ".pub")
    told = f"{signer.key}\n".encode("ascii")
    # Signing does without it: a folder may be there to be read only.
    with suppress(OSError):
        if not public.exists() or _key_in(public.read_bytes()) != _key_in(told):
            with _aside(public, told, 0o644) as aside:
                os.replace(aside, public)


def _key_in(verifier: bytes) -> bytes:
    """The key without the log's name before it: several logs may be signed with one key file."""
    return verifier.strip().split(b"+", 2)[-1]


@contextmanager
def _aside(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A file beside another one that holds the content durably; what is left of it goes."""
    # A name of its own: a number of a process means little where several containers share a folder.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)
