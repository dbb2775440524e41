"""The only place that chooses concrete adapters, by the settings."""

from dee_es.bootstrap.channels import calls_path, links_of, open_call_events, serve_call_events
from dee_es.bootstrap.databases import is_initialised, sqlite_path
from dee_es.bootstrap.engine import Engine, check_policy_here
from dee_es.bootstrap.evidence import signing_key_path
from dee_es.bootstrap.key_care import restore_keys, rotate_keys
from dee_es.bootstrap.keys import keys_url, master_key_path
from dee_es.bootstrap.people import actor_of, users_path

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
    "restore_keys",
    "rotate_keys",
    "serve_call_events",
    "signing_key_path",
    "sqlite_path",
    "users_path",
]
