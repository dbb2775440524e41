"""What a channel is told beside the message: who sends, from where, and when."""

from __future__ import annotations

from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.ports import SendContext
from tests.support.engines import EPOCH, open_engine, outreach, people, publish_basics

AT = int(EPOCH.timestamp() + 90) * 1000


def told(**sender: str) -> SendContext:
    """What comes with a message that is sent at tick 90, by a sender that was published last."""
    channel = MemoryChannel()
    with open_engine(":memory:", channel=channel) as engine:
        publish_basics(engine)
        if sender:
            engine.publish_sender(**sender)
        engine.run_until(90)
        engine.execute(outreach(), people(1)[0])
        engine.tick()
    ((_, context),) = channel.sent
    return context


def test_all_that_was_published_of_the_sender() -> None:
    context = told(
        address="ada@example.com",
        name="Ada",
        postal_address="1 Main Street",
        unsubscribe_url="https://example.com/u",
    )
    assert context == SendContext(
        sender_address="ada@example.com",
        sender_name="Ada",
        postal_address="1 Main Street",
        time_ms=AT,
        unsubscribe_url="https://example.com/u",
    )


def test_nothing_that_was_not_published() -> None:
    assert told(address="ada@example.com") == SendContext(
        sender_address="ada@example.com",
        sender_name=None,
        postal_address=None,
        time_ms=AT,
        unsubscribe_url=None,
    )


def test_without_a_sender_an_address_that_nobody_can_answer() -> None:
    channel = MemoryChannel()
    with open_engine(":memory:", channel=channel) as engine:
        engine.publish_template("intro", text="Hello")
        engine.publish_template("follow", text="Still there?")
        engine.execute(outreach(), people(1)[0])
        engine.tick()
    ((_, context),) = channel.sent
    assert (context.sender_address, context.sender_name) == ("noreply@localhost", None)
