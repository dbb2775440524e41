"""What a database has one of, the sender and the policy: how it is published and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from dee_es.cli.output import say, write_json, write_yaml
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine

Kind = Literal["sender", "policy"]


def publish_single(engine: Engine, kind: Kind, publish: Callable[[], int], as_json: bool) -> None:
    """Publish it, and say its version and whether that was there already."""
    before = engine.list_definitions(kind)
    version = publish()
    unchanged = version in before.values()
    if as_json:
        write_json({"version": version, "unchanged": unchanged})
    else:
        say(f"{kind} {'unchanged' if unchanged else 'published'}: version {version}")


def show_single(engine: Engine, kind: Kind, version: int | None, as_json: bool) -> None:
    """Write it as a file that can be published again. Raises `InvalidInput` if there is none."""
    latest = engine.list_definitions(kind)
    if not latest:
        raise InvalidInput(kind, f"none has been published; see `dee {kind} publish`")
    (name,) = latest
    found = engine.get_definition(kind, name, version)
    shown = latest[name] if version is None else version
    if as_json:
        write_json({"version": shown, **found})
    else:
        write_yaml(f"{kind}, version {shown}", found)
