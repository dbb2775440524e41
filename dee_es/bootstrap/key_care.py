"""The key store of a database, looked after without an engine, or in spite of one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from dee_es.adapters.keys import (
    TriedHolder,
    parse_master_key,
    secret_in_backup,
)
from dee_es.config import EngineConfig
from dee_es.errors import StoreUnavailable
from dee_es.ports import (
    KeyRestore,
    KeyRotation,
    OnKeys,
)

if TYPE_CHECKING:
    pass
from dee_es.bootstrap.databases import is_initialised
from dee_es.bootstrap.engine import Engine
from dee_es.bootstrap.keys import master_key_holder, open_keys


def rotate_keys(
    config: EngineConfig,
    new_key: str | None = None,
    new_file: str | None = None,
    on_progress: OnKeys | None = None,
) -> KeyRotation:
    """Rotate the master key of the key store of these settings; see `engine.keys.rotate`.

    Opens no database, and finishes a rotation that was broken off although the settings still name
    the former master key.
    """
    key = None if new_key is None else parse_master_key(new_key, "new master key")
    tried = TriedHolder(master_key_holder(config, create=False), key, new_file)
    with closing(open_keys(config, create=False, holder=tried)) as keys:
        return keys.rotate(new_key, new_file, on_progress)


def restore_keys(
    config: EngineConfig,
    path: str | None,
    master_key_file: str | None = None,
    on_progress: OnKeys | None = None,
) -> KeyRestore:
    """Bring back the keys of a database from a backup, into a key store that may be gone; see
    `engine.keys.restore`. Without a path an empty key store is made if there is none."""
    config = replace(config, create=False)
    if not is_initialised(config):
        raise StoreUnavailable("there is no database; keys are brought back beside theirs")
    secret = None if path is None else secret_in_backup(path, master_key_file)
    keys = open_keys(config, create=True, new_secret=secret)
    with Engine(config, keys=keys) as engine:
        if path is None:
            return KeyRestore(0, 0, 0)
        return engine.keys.restore(path, master_key_file, on_progress)
