"""The only place that chooses concrete adapters, by the settings.

Names are imported when they are first used: a process that only helps to verify needs the database
and not the engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dee_es.bootstrap.channels import calls_path, links_of, open_call_events, serve_call_events
    from dee_es.bootstrap.databases import is_initialised, sqlite_path
    from dee_es.bootstrap.engine import Engine, check_policy_here
    from dee_es.bootstrap.evidence import signing_key_path
    from dee_es.bootstrap.key_care import restore_keys, rotate_keys
    from dee_es.bootstrap.keys import keys_url, master_key_path
    from dee_es.bootstrap.people import actor_of, users_path
    from dee_es.bootstrap.places import places_of

__all__ = [
    "Engine",
    "actor_of",
    "calls_path",
    "check_policy_here",
    "is_initialised",
    "keys_url",
    "links_of",
    "master_key_path",
    "open_call_events",
    "places_of",
    "restore_keys",
    "rotate_keys",
    "serve_call_events",
    "signing_key_path",
    "sqlite_path",
    "users_path",
]

_HOMES: Final = {
    "Engine": "engine",
    "actor_of": "people",
    "calls_path": "channels",
    "check_policy_here": "engine",
    "is_initialised": "databases",
    "keys_url": "keys",
    "links_of": "channels",
    "master_key_path": "keys",
    "open_call_events": "channels",
    "places_of": "places",
    "restore_keys": "key_care",
    "rotate_keys": "key_care",
    "serve_call_events": "channels",
    "signing_key_path": "evidence",
    "sqlite_path": "databases",
    "users_path": "people",
}


def __getattr__(name: str) -> Any:
    """A name of this package, from the module that has it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
