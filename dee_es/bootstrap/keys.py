"""Where the contacts' keys are kept, and the master key that protects them."""

from __future__ import annotations

from pathlib import Path

from dee_es.adapters.keys import (
    FileHolder,
    MasterHolder,
    MemoryHolder,
    NewSecret,
    create_master_key,
    open_memory_keys,
    open_postgres_keys,
    open_sqlite_keys,
    parse_master_key,
)
from dee_es.bootstrap.databases import MEMORY, POSTGRES, SQLITE, bad_url, sqlite_path
from dee_es.config import EngineConfig
from dee_es.errors import InvalidInput
from dee_es.ports import ManagedKeyStore


def keys_url(config: EngineConfig) -> str:
    """Where the contacts' keys are kept: as configured, else a file beside an SQLite database."""
    path = sqlite_path(config.database)
    if config.keys is not None:
        return config.keys
    if not config.database.startswith((SQLITE, *POSTGRES)):
        raise bad_url()
    if path is None:
        raise InvalidInput(
            "keys",
            "with PostgreSQL the contacts' keys are kept elsewhere, so that a stolen database can "
            "be read by nobody: name the place, as in DEE_KEYS=sqlite:///keys.db",
        )
    return f"{SQLITE}{path.with_name(path.stem + '.keys.db')}"


def master_key_path(config: EngineConfig) -> Path | None:
    """The master key's file: as configured, else beside the keys; None if it is in no file."""
    if config.master_key is not None:
        return None
    if config.master_key_file is not None:
        return Path(config.master_key_file)
    beside = sqlite_path(keys_url(config))
    return None if beside is None else beside.with_name(beside.name.removesuffix(".db") + ".master")


def open_keys(
    config: EngineConfig,
    *,
    create: bool,
    holder: MasterHolder | None = None,
    new_secret: NewSecret | None = None,
) -> ManagedKeyStore:
    """The key store of these settings."""
    if config.database == MEMORY and config.keys is None:
        return open_memory_keys()
    url = keys_url(config)
    key_path = sqlite_path(url)
    in_file = key_path is not None and key_path.name and str(key_path) != MEMORY
    if not (in_file or url.startswith(POSTGRES)):
        # Said before a master key is made for it.
        raise InvalidInput("keys", "must be sqlite:///FILE or postgresql://HOST/NAME")
    holder = holder or master_key_holder(config, create=create and new_secret is None)
    if key_path is None:
        return open_postgres_keys(url, holder, create=create, new_secret=new_secret)
    return open_sqlite_keys(str(key_path), holder, create=create, new_secret=new_secret)


def master_key_holder(config: EngineConfig, *, create: bool) -> MasterHolder:
    """What has the master key, made now if `create` is set and there is none."""
    if config.master_key is not None:
        return MemoryHolder(parse_master_key(config.master_key), "DEE_MASTER_KEY")
    path = master_key_path(config)
    if path is None:
        raise InvalidInput(
            "master_key", "give DEE_MASTER_KEY, or name its file with DEE_MASTER_KEY_FILE"
        )
    if create and not path.exists():
        create_master_key(path)
    return FileHolder(path)
