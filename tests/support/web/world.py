"""A small database with all that a page can show: runs in every status, and hostile texts."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from dee_es import Engine, EngineConfig, ExecutionPlan, create_plan, steps
from dee_es.adapters.anchors import MemorySigners
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.engines import DAY, EPOCH

EVIL: Final = "\"'><script>alert('dee')</script><img src=x onerror=alert(1)><b>{{7*7}}"
"""What would run if it were not escaped, in a text, in an attribute, or in a template."""
MARKUP: Final = (
    '<html><head><title>t</title><style>p{color:red}</style></head><body onload="alert(1)">'
    '<p style="color:red" onclick="alert(1)">Hello <b>{{contact.firstName}}</b></p>'
    '<script>alert(1)</script><img src="https://tracker.example/p.gif">'
    '<a href="javascript:alert(1)">read</a><iframe src="https://tracker.example/"></iframe>'
    "</body></html>"
)
EMAIL: Final = "a&'b@example.com"


@dataclass(frozen=True)
class World:
    """The engine, and a run of each kind by its name."""

    engine: Engine
    plan: ExecutionPlan
    runs: dict[str, str]


def answer(action: Action, _: SendContext) -> ChannelResult:
    """Some messages are refused, and of some nobody knows what became."""
    if "refused" in action.message.to:
        return ChannelResult("failed", error="rejected")
    if "lost" in action.message.to:
        return ChannelResult("unknown", error="connection lost")
    return ChannelResult("delivered", action.key[:16])


def open_world(url: str = ":memory:", folder: Path | None = None) -> AbstractContextManager[Engine]:
    """An engine with places for checkpoints and certificates."""
    # Places in memory are those of the whole process: each world has its own.
    places = f"memory://{secrets.token_hex(6)}/" if folder is None else f"{folder}/"
    config = EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        max_concurrent_sends=1,
        certificates=f"{places}certificates",
        checkpoints=f"{places}checkpoints",
    )
    channel = MemoryChannel(answer)
    return Engine(
        config,
        channels={"email": channel, "voice": channel},
        keys=open_memory_keys(),
        signers=MemorySigners(b"pages"),
    )


def hostile_plan(name: str = EVIL, days: int = 3) -> ExecutionPlan:
    """A plan whose every free text is hostile."""
    return create_plan(
        id="outreach",
        name=name.replace("{{7*7}}", ""),
        steps=[
            steps.send_email("intro", "intro", "{{contact.firstName}} " + EVIL.split("{")[0]),
            steps.wait("pause", {"days": days}),
            steps.branch(
                "answered",
                [
                    {
                        "when": 'contact.attributes.city == "<script>alert(1)</script>"',
                        "goto": "won",
                    },
                    {"when": "default", "goto": "again"},
                ],
            ),
            steps.end("won", EVIL),
            steps.send_email("again", "intro", "Once more"),
            steps.end("lost", "silent"),
        ],
        exit_conditions=[{"when": "events.hasReply(any)", "outcome": EVIL}],
        metadata={"note": EVIL, EVIL: 1},
    )


def person(number: int, **changes: object) -> dict[str, object]:
    """A contact, hostile in every field that takes a text."""
    return {
        "id": f"c{number}",
        "email": f"{number}{EMAIL}",
        "phone": f"+1555{number:07d}",
        "timezone": EVIL,
        "attributes": {"firstName": EVIL, "city": EVIL, "list": [EVIL, {EVIL: EVIL}], EVIL: EVIL},
        **changes,
    }


def furnish(engine: Engine, runs: int = 0) -> World:
    """Fill a database: one run of every kind, and so many more that wait."""
    engine.publish_template("intro", text="Hello {{contact.firstName}}", html=MARKUP)
    engine.publish_sender(address="team@example.com", name="The team")
    engine.publish_plan(hostile_plan("First", 2))
    plan = engine.publish_plan(hostile_plan())
    if runs:
        engine.bulk_execute(plan, (person(1_000 + n) for n in range(runs)), batch_size=1_000)
    made = {
        name: engine.execute(plan, person(n, **changes), {"note": EVIL}, actor=EVIL).id
        for n, (name, changes) in enumerate(
            {
                "lost": {},
                "replied": {},
                "refused": {"email": "refused@example.com"},
                "unknown": {"email": "lost@example.com"},
                "paused": {},
                "cancelled": {},
                "erased": {},
                "won": {"attributes": {"firstName": "Ada", "city": "<script>alert(1)</script>"}},
                "waiting": {},
            }.items()
        )
    }
    engine.tick()
    engine.pause_run(made["paused"], EVIL, EVIL)
    engine.cancel_run(made["cancelled"], EVIL, EVIL)
    engine.ingest_event("email.replied", "c1", step_id="intro", data={"text": EVIL})
    engine.pause_run(made["waiting"], EVIL, EVIL)
    engine.erase_contact("c6", EVIL, EVIL)
    engine.suppress("c5", reason=EVIL, actor=EVIL)
    engine.grant_consent("c5", "email", source=EVIL, actor=EVIL)
    engine.run_until(3 * DAY + 2 if not runs else 1)
    engine.resume_run(made["waiting"], EVIL, EVIL)
    later = engine.now().now + timedelta(days=5)
    made["pending"] = engine.execute(plan, person(50), start_at=later).id
    made["active"] = engine.execute(plan, person(51)).id
    return World(engine, plan, made)


class Page(HTMLParser):
    """What a page consists of; `faults` lists what could run, load or style anything inline."""

    _OWN = ("/static/", "#", "?", "/")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.links: list[str] = []
        self.forms: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.nested: list[Page] = []
        self._script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "script":
            self._script = True
            if not found.get("src", "").startswith("/static/"):
                self.faults.append(f"script {found}")
        if tag in ("style", "img", "object", "embed", "base") or "style" in found:
            self.faults.append(f"{tag} {found}")
        self.faults += [f"{tag} {name}" for name in found if name.startswith(("on", "hx-on"))]
        for name in ("href", "src", "action", "hx-get", "hx-post"):
            if name in found and not found[name].startswith(self._OWN):
                self.faults.append(f"{tag} {name}={found[name]}")
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "form":
            self.forms.append(found.get("action", ""))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "iframe":
            if found.get("sandbox") != "" or "srcdoc" not in found or "src" in found:
                self.faults.append(f"iframe {found}")
            self.nested.append(Page(found.get("srcdoc", "")))
            self.faults += self.nested[-1].faults
            self.faults += [f"in a frame: {link}" for link in self.nested[-1].links]

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.faults.append(f"script text {data[:40]}")
        self.text += data
