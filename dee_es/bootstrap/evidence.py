"""The key that signs, and the places that keep what is signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dee_es.config import EngineConfig
from dee_es.errors import InvalidInput
from dee_es.ports import (
    Anchor,
    Signer,
    SignerSource,
)

if TYPE_CHECKING:
    pass
from dee_es.bootstrap.databases import MEMORY, sqlite_path


def signers_of(config: EngineConfig) -> SignerSource:
    """Where the key that signs comes from."""
    if config.database == MEMORY and config.audit_key_file is None:
        from dee_es.adapters.anchors import MemorySigners

        return MemorySigners()
    return _Signers(config)


class _Signers:
    """A `SignerSource` over the key file of the settings."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._opened: Signer | None = None

    def open(self, name: str, *, create: bool) -> Signer | None:
        """See `SignerSource.open`."""
        if self._opened is None or self._opened.key.name != name:
            from dee_es.adapters.anchors import create_signer, load_signer

            path = signing_key_path(self._config)
            if path is not None and path.exists():
                self._opened = load_signer(path, name)
            elif path is not None and create:
                try:
                    self._opened = create_signer(path, name)
                except InvalidInput:
                    # Another worker may have made it at the same moment.
                    if not path.exists():
                        raise
                    self._opened = load_signer(path, name)
            elif create:
                raise InvalidInput(
                    "audit_key_file",
                    "name a file for the key that signs checkpoints, as in "
                    "DEE_AUDIT_KEY_FILE=audit.key",
                )
            else:
                return None
        return self._opened


def signing_key_path(config: EngineConfig) -> Path | None:
    """The file of the key that signs checkpoints: as configured, else beside an SQLite database."""
    if config.audit_key_file is not None:
        return Path(config.audit_key_file)
    path = sqlite_path(config.database)
    return None if path is None else path.with_name(path.stem + ".audit.key")


def anchors_of(config: EngineConfig) -> list[Anchor]:
    """The places that keep checkpoints."""
    if not config.checkpoints:
        return []
    from dee_es.adapters.anchors import open_anchor

    return [open_anchor(place) for place in config.checkpoints.split()]
