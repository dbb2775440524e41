"""Where evidence about the log is kept, out of reach of whoever can write to the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dee_es.core.evidence.signed_note import VerifierKey


class Signer(Protocol):
    """The key that signs checkpoints and certificates."""

    @property
    def key(self) -> VerifierKey:
        """Its public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature of the message."""
        ...

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's, of the message."""
        ...


class SignerSource(Protocol):
    """Where the signing key comes from; it is looked for only when something has to be signed or
    checked."""

    def open(self, name: str, *, create: bool) -> Signer | None:
        """The key under this name, made now if there is none and `create` is set; else None.

        Raises `InvalidInput` if it cannot be read.
        """
        ...


class Anchor(Protocol):
    """A place outside the database that keeps checkpoints, each under its size and for ever.

    Methods raise `AnchorUnavailable` naming the place.
    """

    @property
    def place(self) -> str:
        """How people call it; without credentials."""
        ...

    def put(self, size: int, note: str) -> None:
        """Keep a checkpoint, durably; the same one again changes nothing.

        Raises `IntegrityViolation` if another one is kept there under this size.
        """
        ...

    def notes(self) -> Iterator[tuple[int, str]]:
        """Size and text of all that are kept, the newest first.

        Raises `AnchorUnavailable`: in a folder, for one that cannot be read, behind all the others.
        """
        ...
