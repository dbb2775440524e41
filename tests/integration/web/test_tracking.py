"""Messages that tell of themselves: sent by SMTP, opened and followed as their readers would."""

from __future__ import annotations

import email
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from email import policy
from typing import Any

import httpx
import pytest

from dee_es import Engine, EngineConfig, create_plan, steps
from dee_es.core.messages.message import message_id
from dee_es.errors import InvalidInput
from dee_es.web.hook_settings import HookSettings
from tests.support.channels.smtp import RunningSmtp, running_smtp
from tests.support.engines import EPOCH
from tests.support.web.application import SETTINGS
from tests.support.web.hooks import LINK_SECRET, ONE_CLICK, received
from tests.support.web.listening import listening

HTML = """<html><body><p>Hello {{contact.firstName}}</p>
<a href="https://shop.example/offer?a=1&amp;b=2">See the offer</a>
<a href="{{unsubscribeUrl}}">Stop</a></body></html>"""
TEXT = "Hello {{contact.firstName}}: https://shop.example/offer. Stop: {{unsubscribeUrl}}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def config(smtp: RunningSmtp, public: str | None, **more: Any) -> EngineConfig:
    return EngineConfig(
        ":memory:",
        clock="manual",
        epoch=EPOCH,
        email="smtp",
        smtp_host=smtp.host,
        smtp_port=smtp.port,
        smtp_security="none",
        public_url=public,
        link_secret=None if public is None else LINK_SECRET,
        max_concurrent_sends=1,
        **more,
    )


def publish(engine: Engine, tracking: Any = None, **sender: Any) -> None:
    engine.publish_template("intro", text=TEXT, html=HTML)
    engine.publish_sender(address="team@example.com", **sender)
    engine.publish_plan(
        create_plan(
            id="welcome",
            name="Welcome",
            steps=[
                steps.send_email("hello", "intro", "Hello", tracking=tracking),
                steps.wait("pause", {"days": 1}),
                steps.branch(
                    "seen",
                    [
                        {"when": 'events.hasClick("hello")', "goto": "won"},
                        {"when": "default", "goto": "lost"},
                    ],
                ),
                steps.end("won", "clicked"),
                steps.end("lost", "silent"),
            ],
        )
    )


def enroll(engine: Engine) -> str:
    person = {"id": "c1", "email": "c1@example.com", "firstName": "Ada"}
    run = engine.execute(engine.get_plan("welcome"), person)
    engine.tick()
    return run.id


def bodies(content: bytes) -> tuple[str, str]:
    """The text and the HTML of a message."""
    mail = email.message_from_bytes(content, policy=policy.default)
    found = [mail.get_body((kind,)) for kind in ("plain", "html")]
    text, html = (part.get_content() for part in found if part is not None)
    return text, html


def hrefs(html: str) -> list[str]:
    return re.findall(r'href="([^"]*)"', html)


@pytest.fixture
def smtp() -> Iterator[RunningSmtp]:
    with running_smtp() as running:
        yield running


def test_what_readers_do_with_a_message_is_in_the_log(smtp: RunningSmtp) -> None:
    port = free_port()
    with Engine(config(smtp, f"http://127.0.0.1:{port}")) as engine:
        publish(engine, tracking=True)
        run = enroll(engine)
        settings = replace(SETTINGS, hooks=HookSettings(links=engine.links))
        with listening(engine, settings, port), httpx.Client() as reader:
            text, html = bodies(smtp.taken[0].content)
            assert text.startswith("Hello Ada: https://shop.example/offer. Stop: http://127")
            offer, stop = hrefs(html)
            (pixel,) = re.findall(r'<img src="([^"]*)"', html)
            for _ in range(2):
                image = reader.get(pixel)
                assert (image.status_code, image.headers["content-type"]) == (200, "image/gif")
                assert len(image.content) < 50
                followed = reader.get(offer)
                assert followed.status_code == 302
                assert followed.headers["location"] == "https://shop.example/offer?a=1&b=2"
            told = {each["type"]: each for each in received(engine)}
            assert list(told) == ["email.opened", "email.clicked"]
            assert len(received(engine)) == 2, "once each, however often"
            (sent,) = [each for each in engine.get_logs(run) if "key" in each.data]
            for each in told.values():
                assert (each["run_id"], each["step_id"]) == (run, "hello")
                assert each["personal"]["data"]["message_id"] == message_id(sent.data["key"])
            clicked = told["email.clicked"]["personal"]["data"]
            assert clicked["url"] == "https://shop.example/offer?a=1&b=2"
            engine.run_until_idle()
            assert engine.get_run(run).outcome == "clicked"
            assert engine.replay(run).identical
            assert reader.get(stop).status_code == 200, "a button for people"
            assert engine.contact_at("c1").suppressions == ()
            assert reader.post(stop, data=ONE_CLICK).status_code == 200
            assert engine.contact_at("c1").suppressions == ("global",)
            assert stop in text
            header = email.message_from_bytes(smtp.taken[0].content)["List-Unsubscribe"]
            assert header == f"<{stop}>"


def test_the_log_is_the_same_with_links_and_without(smtp: RunningSmtp) -> None:
    """The digest is of what was rendered; what a contact's own links are is decided by a secret."""
    digests = []
    for secret in (LINK_SECRET, LINK_SECRET[::-1]):
        chosen = replace(config(smtp, "https://mail.example.com"), link_secret=secret)
        with Engine(chosen) as engine:
            publish(engine, tracking=True)
            run = enroll(engine)
            (sent,) = [e for e in engine.get_logs(run) if e.action == "step.dispatched"]
            digests.append(sent.data["digest"])
            held = sent.data["personal"]["html"]
            assert hrefs(held) == [
                "https://shop.example/offer?a=1&amp;b=2",
                "https://mail.example.com/hooks/unsubscribe",
            ]
            assert "<img" not in held
            assert engine.replay(run).identical
    assert digests[0] == digests[1]
    assert smtp.taken[0].content != smtp.taken[1].content


def test_without_tracking_only_the_link_to_unsubscribe_is_the_contact_s_own(
    smtp: RunningSmtp,
) -> None:
    with Engine(config(smtp, "https://mail.example.com")) as engine:
        publish(engine)
        enroll(engine)
        _, html = bodies(smtp.taken[0].content)
        assert hrefs(html)[0] == "https://shop.example/offer?a=1&amp;b=2"
        assert hrefs(html)[1].startswith("https://mail.example.com/hooks/unsubscribe/")
        assert "<img" not in html


def test_the_sender_speaks_for_steps_that_do_not(smtp: RunningSmtp) -> None:
    with Engine(config(smtp, "https://mail.example.com")) as engine:
        publish_tracked(engine)
        enroll(engine)
        _, html = bodies(smtp.taken[0].content)
        assert hrefs(html)[0].startswith("https://mail.example.com/hooks/click/")
        assert hrefs(html)[1].startswith("https://mail.example.com/hooks/unsubscribe/")
        assert "<img" not in html


def publish_tracked(engine: Engine) -> None:
    publish(engine)
    engine.publish_sender(
        address="team@example.com",
        unsubscribe_url="https://example.com/u",
        tracking={"opens": False},
    )
    assert engine.get_definition("sender", "default")["tracking"] == {
        "opens": False,
        "clicks": True,
    }


@pytest.mark.parametrize("wrong", ["yes", 1, {"opens": "yes"}, {"open": True}, ["opens"]])
def test_tracking_that_cannot_be_understood_is_refused(wrong: Any, smtp: RunningSmtp) -> None:
    with Engine(config(smtp, None)) as engine, pytest.raises(InvalidInput, match="tracking"):
        engine.publish_sender(address="team@example.com", tracking=wrong)


def test_without_an_address_in_public_nothing_is_rewritten(smtp: RunningSmtp) -> None:
    with Engine(config(smtp, None)) as engine:
        publish(engine, tracking=True, unsubscribe_url="https://example.com/u")
        enroll(engine)
        text, html = bodies(smtp.taken[0].content)
        assert hrefs(html) == ["https://shop.example/offer?a=1&amp;b=2", "https://example.com/u"]
        assert "<img" not in html
        assert text.rstrip().endswith("Stop: https://example.com/u")


def test_a_message_that_is_sent_again_leaves_with_the_same_links(smtp: RunningSmtp) -> None:
    """A refusal that passes: the next attempt has the same key, and so the same links."""
    with Engine(config(smtp, "https://mail.example.com")) as engine:
        publish(engine, tracking=True)
        smtp.replies["RCPT"] = "450 busy"
        run = enroll(engine)
        del smtp.replies["RCPT"]
        engine.run_until(engine.now().tick + 3_600)
        assert engine.get_run(run).status == "waiting"
        actions = [each.action for each in engine.get_timeline(run)]
        assert actions.count("step.dispatched") == 2
    with Engine(config(smtp, "https://mail.example.com")) as engine:
        publish(engine, tracking=True)
        enroll(engine)
    first, second = (hrefs(bodies(each.content)[1]) for each in smtp.taken)
    assert first == second
