"""One example of each event with every field set, as it was first stored and must be read for ever.

A new field of an event belongs into its example; a new version of its shape needs a golden file,
which `python -m tests.golden.write` adds.
"""

from __future__ import annotations

from typing import Final

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.evidence import chain

META: Final = e.Meta(
    259_200, "cmd_7m3k", "execute", 1_767_225_600_123, "ann@example.com", 'Grüße, "ä"\n'
)
STREAM: Final = "run_mrujiurxbiq2emvxpyn6vbprbg"
VERSION: Final = 3
PREVIOUS: Final = bytes(range(32))

PINS: Final = e.Pins({"hello": 2, "again": 1}, {"call": 3}, sender=4, policy=5, rules=6)
PERSON: Final = e.Enrolled(
    email="jane@example.com",
    phone="+15550100",
    timezone="Europe/Vienna",
    attributes={"firstName": "Jäne", "tags": ["a", None, True], "score": 1.5, "big": 2**53},
    variables={"offer": {"percent": 10}, "a": ""},
)
MESSAGE: Final = e.Message(
    to="jane@example.com",
    subject="Hi Jäne",
    text="Hello 🙂",
    html="<p>Hello</p>",
    reply_to="Us <us@example.com>",
    script={"greeting": "Hello", "steps": []},
    gate={"zone": "Europe/Vienna"},
)
DETAIL: Final = e.Detail({"kind": "soft", "code": 451, "lines": ["busy", "later"]})
SEEN: Final = e.Seen({'events.hasReply("intro")': False, "variables.score": 3.25, "x": None})
READS: Final = {"policy": 5, "consent.email": "granted", "consent.email.expires": None}
DEFINITION: Final = {"id": "welcome", "steps": [{"type": "end", "id": "over", "outcome": "ö"}]}
KEY: Final = "5f" * 32
SUBJECTS: Final = ("email:9f86d081", "id:contact_123")

EXAMPLES: Final[dict[str, e.Event]] = {
    "RunScheduled": e.RunScheduled("welcome", 2, "contact_123", 3, 86_400, 7, PINS, PERSON),
    "RunStarted": e.RunStarted("welcome", 2, "contact_123", 3, 86_400, 7, PINS, PERSON),
    "RunPaused": e.RunPaused("remaining", "budget: spent", READS, SEEN),
    "RunResumed": e.RunResumed(259_201, 100, 2),
    "RunRetried": e.RunRetried(259_201, PINS),
    "RunCancelled": e.RunCancelled("unsubscribed"),
    "RunCompleted": e.RunCompleted("replied", "events.hasReply(any)", "over", SEEN),
    "RunFailed": e.RunFailed("no such mailbox", "intro"),
    "StepEntered": e.StepEntered("intro", 7, 259_201),
    "StepDispatched": e.StepDispatched(
        step_id="intro",
        channel="email",
        key=KEY,
        attempt=2,
        lease_epoch=9,
        digest="ab" * 32,
        reads=READS,
        counted=(("channel:email", 20_454, 1, 500),),
        resend=True,
        personal=MESSAGE,
    ),
    "StepPending": e.StepPending("call", 345_600, "msg_5f5f"),
    "StepCompleted": e.StepCompleted("intro", "delivered", "msg_5f5f", True, True),
    "BranchEvaluated": e.BranchEvaluated("check", 'events.hasReply("intro")', "engaged", SEEN),
    "StepSkipped": e.StepSkipped(
        "intro", "suppression", "the contact is suppressed (global)", READS, True, SEEN
    ),
    "StepDeferred": e.StepDeferred("intro", "window", "opens at 09:00", 288_000, READS, True, SEEN),
    "WaitStarted": e.WaitStarted("pause", 518_400),
    "WaitCompleted": e.WaitCompleted("pause"),
    "ChannelEventReceived": e.ChannelEventReceived(
        type="email.bounced",
        contact_id="contact_123",
        event_id="event_1",
        occurred_tick=259_000,
        run_id=STREAM,
        step_id="intro",
        kind="soft",
        exit_condition="contact.bounced",
        exit_outcome="gone",
        ended=True,
        personal=DETAIL,
    ),
    "StepFailed": e.StepFailed("intro", "no such mailbox", 3, True, READS, True, DETAIL),
    "StepRetried": e.StepRetried("intro", "smtp 535", 1, 259_260, True, DETAIL, True),
    "OutcomeUnknown": e.OutcomeUnknown("intro", KEY, "connection lost", True),
    "StepResolved": e.StepResolved("intro", "resend", 259_201, True),
    "PlanPublished": e.PlanPublished(DEFINITION, {"owner": "sales"}),
    "TemplatePublished": e.TemplatePublished({"text": "Hello"}, {"owner": "sales"}),
    "ScriptPublished": e.ScriptPublished({"greeting": "Hello"}, {"owner": "sales"}),
    "SenderPublished": e.SenderPublished({"address": "us@example.com"}, {"owner": "sales"}),
    "PolicyPublished": e.PolicyPublished({"limits": {"email": 100}}, {"owner": "sales"}),
    "ContactSuppressed": e.ContactSuppressed("contact_123", "channel", "email", SUBJECTS),
    "ContactUnsuppressed": e.ContactUnsuppressed("contact_123", "channel", "email", SUBJECTS),
    "ConsentGranted": e.ConsentGranted("contact_123", "email", "news", 604_800, "form 7"),
    "ConsentRevoked": e.ConsentRevoked("contact_123", "email", "news"),
    "EnrollmentRefused": e.EnrollmentRefused(
        "contact_123", "welcome", "suppression", "channel email"
    ),
    "CheckpointSigned": e.CheckpointSigned(
        3, "ab" * 32, ("cd" * 32, "ef" * 32), "dee-es/00\n3\nq80=\n\n\u2014 k c2ln\n", ("anchors",)
    ),
    "ContactErased": e.ContactErased("c-1", "ab" * 16),
    "LogExported": e.LogExported(
        "export", "csv", 900, 12, STREAM, "contact_123", 10, 500, "ab" * 32, "out/run.csv", True
    ),
    "LogImported": e.LogImported(STREAM, "dee-run/1", 14, "ab" * 32, True),
    "LogArchived": e.LogArchived(
        1, 500, 2, 28, 11, 70, "ab" * 32, "cd" * 32, "s3://evidence/archives", "archive-1.jsonl"
    ),
    "HoldPlaced": e.HoldPlaced("hold_1", STREAM, "contact_123"),
    "HoldLifted": e.HoldLifted("hold_1"),
    "ClockStarted": e.ClockStarted(1_735_689_600_000, 1000, "manual", "off"),
}

LIFTED: Final[dict[tuple[str, int], e.Event]] = {
    ("ClockStarted", 1): e.ClockStarted(1_735_689_600_000, 1000, "manual"),
    ("RunResumed", 1): e.RunResumed(259_201, 100),
    ("StepRetried", 1): e.StepRetried("intro", "busy", 1, 259_260, True, DETAIL),
}
"""What a golden file of an old schema is read as, where that is not the example above."""


def expected(name: str, schema: int) -> e.Event:
    """The event that the golden file of this name and schema holds."""
    return LIFTED.get((name, schema), EXAMPLES[name])


def stored(name: str) -> dict[str, str]:
    """The example as it is stored: both parts, and the sealed state in hex."""
    known, public, personal = codec.encode(EXAMPLES[name], META)
    assert known == name
    payload = codec.join(public, personal)
    _, state = chain.seal(STREAM, VERSION, name, PREVIOUS, payload)
    return {"public": public.decode(), "personal": personal.decode(), "state": state.hex()}
