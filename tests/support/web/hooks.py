"""An engine that sends into a folder, behind a server with webhooks and links."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dee_es import Engine, EngineConfig, create_plan, steps
from dee_es.adapters.channels.outbox import OutboxChannel
from dee_es.engine.links import Links
from dee_es.web.hook_settings import HookSettings
from tests.support.channels.twilio import ACCOUNT, FROM, TOKEN
from tests.support.engines import EPOCH
from tests.support.web.application import HOST, SETTINGS, Client, served

KEY = secrets.token_bytes(32)
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
LINK_SECRET = "a-secret-for-links-of-32-characters"
CALL_SECRET = "a-secret-for-calls"
PUBLIC = f"http://{HOST}"
NOW = 1_800_000_000.0
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def config(folder: Path, database: str = ":memory:", **more: Any) -> EngineConfig:
    return EngineConfig(
        database,
        clock="manual",
        epoch=EPOCH,
        outbox=str(folder / "outbox"),
        public_url=PUBLIC,
        link_secret=LINK_SECRET,
        twilio_account_sid=ACCOUNT,
        twilio_auth_token=TOKEN,
        twilio_from_number=FROM,
        twilio_callback_url="https://calls.example/hooks/twilio",
        twilio_callback_secret=CALL_SECRET,
        twilio_calls=str(folder / "calls.db"),
        **more,
    )


@contextmanager
def opened(folder: Path, database: str = ":memory:") -> Iterator[Engine]:
    chosen = config(folder, database)
    with Engine(chosen, channels={"email": OutboxChannel(chosen.outbox)}) as engine:
        engine.publish_template("intro", text="Hello {{contact.firstName}}")
        engine.publish_sender(address="team@example.com", unsubscribe_url="https://example.com/u")
        engine.publish_plan(
            create_plan(
                id="welcome",
                name="Welcome",
                steps=[
                    steps.send_email("hello", template_id="intro", subject="Hello"),
                    steps.wait("pause", duration={"days": 3}),
                    steps.end("done", outcome="finished"),
                ],
            )
        )
        yield engine


@contextmanager
def hooked(engine: Engine, **hooks: Any) -> Iterator[Client]:
    given: dict[str, Any] = {
        "webhook_keys": (KEY,),
        "links": Links(PUBLIC, LINK_SECRET),
        "now": lambda: NOW,
        **hooks,
    }
    with served(engine, replace(SETTINGS, hooks=HookSettings(**given))) as client:
        yield client


def enroll(engine: Engine, contact_id: str = "c1") -> str:
    run = engine.execute(
        engine.get_plan("welcome"),
        {"id": contact_id, "email": f"{contact_id}@example.com", "firstName": "Ada"},
    )
    engine.tick()
    return run.id


def received(engine: Engine, contact_id: str = "c1") -> list[dict[str, Any]]:
    return [
        entry.data
        for entry in engine.get_contact_logs(contact_id)
        if entry.stream.startswith("contact") and entry.data.get("event_id")
    ]
