"""`dee debug`: a small session that steps through one run; nothing is sent or written."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

import click

from dee_es.cli.output import say
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import in_zone, local, zone_option
from dee_es.errors import DeeError, InvalidInput

if TYPE_CHECKING:
    from dee_es.engine.past.debugger import DebugSession, DebugStep, WhatIf

HELP: Final = """\
next [N]                      go on by an event, or by N
back [N]                      go back
goto VERSION                  go to a version; 0 is before the enrolment
peek                          what happened next, without going there
context                       how the run stands here, and what a decision would read
what-if event TYPE [JSON] [STEP]   what would happen if this channel event came in here
what-if set NAME VALUE        ... if the variable had this value (JSON or text)
what-if nothing               ... if nothing came in any more
help                          these lines
quit                          leave"""


@click.command()
@click.argument("run_id", metavar="RUN")
@zone_option
@pass_session
def debug(session: Session, /, run_id: str, zone: tzinfo) -> None:
    """Step through RUN, forwards and backwards, and ask what would happen if.

    Reads commands from standard input, one a line; `help` lists them. Nothing is ever sent or
    written.
    """
    with session.engine() as engine:
        debugged = engine.debug(run_id)
        say(f"{run_id}: {debugged.last_version} events; `help` lists the commands")
        _Console(debugged, zone).run(_lines())


def _lines() -> Iterator[str]:
    prompt = sys.stdin.isatty()
    while True:
        if prompt:
            sys.stdout.write("(dee) ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        yield line


class _Console:
    """Carries out the commands of a session."""

    def __init__(self, session: DebugSession, zone: tzinfo) -> None:
        self._session = session
        self._zone = zone
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "next": self._next,
            "back": self._back,
            "goto": self._goto,
            "peek": lambda _: _say_step(self._session.peek(), self._zone),
            "context": self._context,
            "what-if": self._what_if,
            "help": lambda _: say(HELP),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Carry out line after line; what is wrong with one is said, and the next one is read."""
        for line in lines:
            try:
                words = shlex.split(line)
            except ValueError as error:
                say(f"not understood: {error}")
                continue
            if not words:
                continue
            if words[0] in ("quit", "exit", "q"):
                return
            command = self._commands.get(words[0], self._unknown)
            try:
                command(words[1:] if command != self._unknown else words)
            except DeeError as error:
                say(str(error))

    def _unknown(self, words: list[str]) -> None:
        say(f"{words[0]!r} is no command; these are:\n{HELP}")

    def _next(self, words: list[str]) -> None:
        for _ in range(_number(words, 1)):
            _say_step(self._session.step_forward(), self._zone)

    def _back(self, words: list[str]) -> None:
        for _ in range(_number(words, 1)):
            undone = self._session.step_back()
            say(f"back to version {self._session.version}, before {undone.event}")

    def _goto(self, words: list[str]) -> None:
        self._session.goto(_number(words, None))
        say(f"at version {self._session.version} of {self._session.last_version}")

    def _context(self, _: list[str]) -> None:
        shown = self._session.at().model_dump(mode="json", by_alias=True)
        say(json.dumps(shown, ensure_ascii=False, indent=2))

    def _what_if(self, words: list[str]) -> None:
        match words:
            case ["event", kind, *rest] if len(rest) <= 2:
                data = _json(rest[0]) if rest else {}
                if not isinstance(data, dict):
                    raise InvalidInput("data", "must be a JSON object")
                step = rest[1] if len(rest) == 2 else None
                self._tell(self._session.what_if_event(kind, data, step))
            case ["set", name, value]:
                self._tell(self._session.what_if_variable(name, _json_or_text(value)))
            case ["nothing"]:
                self._tell(self._session.what_next())
            case _:
                raise InvalidInput("what-if", "goes on with event TYPE, set NAME VALUE or nothing")

    def _tell(self, found: WhatIf) -> None:
        _say_what_if(found, self._zone)


def _number(words: list[str], default: int | None) -> int:
    if not words and default is not None:
        return default
    if len(words) != 1 or not words[0].isascii() or not words[0].isdigit():
        raise InvalidInput("number", "must be one whole number")
    # Python reads no number of more than some thousand digits.
    return 10**6 if len(words[0]) > 6 else int(words[0])


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("data", "is not JSON; put it in single quotes") from None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _say_step(step: DebugStep, zone: tzinfo) -> None:
    kind = f" ({step.type})" if step.type else ""
    where = f" step {step.step_id}{kind}" if step.step_id is not None else ""
    say(f"{step.version}: {local(step.time, zone)} tick {step.tick:,} {step.event}{where}")


def _say_what_if(found: WhatIf, zone: tzinfo) -> None:
    for event in found.events:
        step = f" step {event.step_id}" if event.step_id is not None else ""
        outcome = f": {in_zone(event.outcome, zone)}" if event.outcome else ""
        say(f"  would: {local(event.time, zone)} tick {event.tick:,} {event.event}{step}{outcome}")
    outcome = f" with the outcome {found.outcome!r}" if found.outcome else ""
    say(f"  the run would be {found.status}{outcome}" + ("" if found.complete else ", and go on"))
    if found.assumed:
        say(f"  taken as delivered: {', '.join(found.assumed)}")
