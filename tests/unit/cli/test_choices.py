"""What an option of the shell can be is written beside it, since help is to come at once and the
engine takes time to import; here it is held against what the engine knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args, get_type_hints

import click

from dee_es.cli.root import root
from dee_es.config import EngineConfig
from dee_es.core.channels import CHANNELS
from dee_es.core.events import LEVELS
from dee_es.core.views import RunStatus
from dee_es.engine.compliance.report import INCLUDED, ReportFormat
from dee_es.engine.exporting.manager import FORMATS
from dee_es.engine.lifecycle import KEEPS, OUTCOMES
from dee_es.web.security.roles import Role

SETTINGS: Final[dict[str, Any]] = get_type_hints(EngineConfig)
KNOWN: Final[dict[str, Sequence[str]]] = {
    "status": tuple(RunStatus),
    "keep": KEEPS,
    "outcome": OUTCOMES,
    "level": LEVELS,
    "channel": CHANNELS,
    "role": tuple(Role),
    "audit export --format": FORMATS,
    "report --format": get_args(ReportFormat),
    "report --include": INCLUDED,
    "init --clock": get_args(SETTINGS["clock"]),
    "init --personal-data": get_args(SETTINGS["personal_data"]),
}
"""What there is, by the option or argument, or by the command where the name alone does not say."""
OWN: Final = {"enroll --dedupe"}
"""What only the shell knows."""


def choices(command: click.Command, path: str = "") -> Iterator[tuple[str, str, set[str]]]:
    """Every option or argument that is one of a few words: whole, by its name alone, the words."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from choices(inner, f"{path} {name}".strip())
        return
    for each in command.params:
        if isinstance(each.type, click.Choice):
            option = max(each.opts, key=len)
            yield f"{path} {option}", option.lstrip("-"), {*map(str, each.type.choices)}


def test_every_choice_is_the_engine_s() -> None:
    found = list(choices(root))
    assert len(found) > 15
    for whole, name, words in found:
        if whole not in OWN:
            known = KNOWN[whole] if whole in KNOWN else KNOWN[name]
            assert words == set(known), whole
