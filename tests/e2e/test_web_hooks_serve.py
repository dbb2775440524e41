"""Webhooks and links of `dee serve` in a process of its own, as the settings set them up."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import httpx

from dee_es.engine.links import Links
from dee_es.web.hooks.signatures import sign
from tests.e2e.test_web_serve import serving
from tests.support.channels.twilio import ACCOUNT, FROM, TOKEN
from tests.support.cli.commands import Dee
from tests.support.web.application import API

KEY = b"k" * 32
LINK_SECRET = "a-secret-for-links-of-32-characters"
PUBLIC = "https://mail.example.com"
SETTINGS = {
    "DEE_WEBHOOK_SECRET": "whsec_" + base64.b64encode(KEY).decode(),
    "DEE_LINK_SECRET": LINK_SECRET,
    "DEE_PUBLIC_URL": PUBLIC,
}
TWILIO = {
    "DEE_VOICE": "twilio",
    "DEE_TWILIO_ACCOUNT_SID": ACCOUNT,
    "DEE_TWILIO_AUTH_TOKEN": TOKEN,
    "DEE_TWILIO_FROM_NUMBER": FROM,
    "DEE_TWILIO_CALLBACK_URL": f"{PUBLIC}/hooks/twilio",
    "DEE_TWILIO_CALLBACK_SECRET": "a-secret-for-calls",
}


def test_settings_set_the_hooks_up(tmp_path: Path) -> None:
    dee = Dee(tmp_path, {**SETTINGS, **TWILIO}).prepared()
    with serving(dee) as (_, url), httpx.Client(base_url=url) as client:
        body = json.dumps({"events": [{"type": "email.opened", "contactId": "c1"}]}).encode()
        stamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "webhook-id": "m1",
            "webhook-timestamp": stamp,
            "webhook-signature": sign(KEY, "m1", stamp, body),
        }
        for known in (0, 1):
            told = client.post("/hooks/email", content=body, headers=headers)
            assert (told.status_code, told.json()["known"]) == (200, known)
        path = Links(PUBLIC, LINK_SECRET).unsubscribe("c2").removeprefix(PUBLIC)
        assert client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
        contact = client.get(f"{API}/contacts/c2").json()
        assert contact["suppressions"] == ["global"]
        assert client.post("/hooks/twilio/status/x", data={"a": "b"}).status_code == 403


def test_settings_that_would_not_be_safe_are_refused(tmp_path: Path) -> None:
    Dee(tmp_path).prepared()
    for settings, said in (
        ({"DEE_WEBHOOK_SECRET": "short"}, "webhook_secret: needs 24 bytes"),
        ({"DEE_LINK_SECRET": LINK_SECRET}, "DEE_PUBLIC_URL"),
    ):
        assert said in Dee(tmp_path, settings).fault("serve", "--port", "0")
