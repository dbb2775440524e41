"""Definitions, legal holds and suppression lists over HTTP: once, by whom, and how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, SuppressionEntry
from dee_es.client import ApiRefused, DeeClient
from dee_es.client import transport as sending
from dee_es.engine.models import ImportResult
from dee_es.errors import HoldInForce, InvalidInput
from tests.support.web.application import API, MEANT, Client, refused, served, with_users
from tests.support.web.listening import Lossy, listening, lossy_way


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, DeeClient, Lossy]]:
    monkeypatch.setattr(sending, "_PAUSE_S", 0.01)
    with lossy_way() as found:
        yield found


def test_what_is_repeated_acts_once(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    engine, client, way = lossy
    run = client.execute("a", {"id": "c1"}).id
    before = engine.health().position
    way.lose = ["POST /api/v1/definitions/"] * 2
    versions = [client.publish_sender(address=f"n{n}@example.com", command_id="s") for n in (1, 1)]
    assert versions[0] == versions[1] == engine.list_definitions("sender")["default"]
    way.lose = ["POST /api/v1/holds"]
    placed = client.place_hold(contact_id="c1", reason="court order", command_id="h")
    assert client.place_hold(contact_id="c1", reason="court order", command_id="h") == placed
    assert engine.holds() == [placed]
    way.lose = [f"POST /api/v1/holds/{placed.hold_id}/lift"]
    client.lift_hold(placed.hold_id, "over")
    assert engine.holds() == []
    way.lose = ["POST /api/v1/contacts/suppress/batch"] * 2
    assert client.import_suppressions(many(3)).added == 3
    assert engine.health().position == before + 1 + 2 + 3
    way.lose = [f"POST /api/v1/runs/{run}/export", "GET /api/v1/jobs/"]
    content = client.export_run(run)
    assert engine.health().position == before + 7
    way.lose = ["POST /api/v1/runs/import"]
    assert client.import_run(content) == run
    assert way.lose == []


def test_a_script_that_was_published_between_is_not_published_again(
    lossy: tuple[Engine, DeeClient, Lossy],
) -> None:
    """A kept answer or not: the command knows the version that it made."""
    engine, client, _ = lossy
    assert client.publish_script("again", greeting="One", command_id="mine") == 1
    assert client.publish_script("again", greeting="Two") == 2
    assert client.publish_script("again", greeting="One", command_id="mine") == 1
    for publish in (
        lambda text: engine.publish_script("other", greeting=text, command_id=f"script-{text}"),
        lambda text: engine.publish_sender(
            address="a@example.com", name=text, command_id=f"sender-{text}"
        ),
        lambda text: engine.publish_policy(
            {"limits": {"perDay": {"contact": len(text)}}}, command_id=f"policy-{text}"
        ),
    ):
        first = publish("a")
        assert publish("bb") == first + 1
        assert publish("a") == first


# --- suppression lists ----------------------------------------------------------------------------


def many(count: int) -> Iterator[SuppressionEntry]:
    return (SuppressionEntry(email=f"p{number}@example.com") for number in range(count))


def test_a_long_list_goes_in_requests_that_fit(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    engine, client, way = lossy
    sums: list[int] = []
    told = client.import_suppressions(
        many(1_200), on_progress=lambda so_far: sums.append(so_far.done)
    )
    assert (told.added, told.already, told.errors) == (1_200, 0, 0)
    assert sums == [500, 1_000, 1_200]
    assert len(way.asked) == 3
    reason = "a reason of some length " * 200
    wordy = (SuppressionEntry(f"w{n}", reason=reason) for n in range(300))
    assert client.import_suppressions(wordy).added == 300
    assert len(way.asked) == 6
    assert engine.contact_at("w299").suppressions == ("regulatory",)


def test_a_rehearsal_counts_nobody_twice_across_requests(
    lossy: tuple[Engine, DeeClient, Lossy],
) -> None:
    engine, client, _ = lossy
    engine.suppress(email="known@example.com", level="regulatory")
    entries = [
        *many(30), SuppressionEntry("x", "P1@example.com", "+15550100"), *many(30),
        SuppressionEntry("x", phone="0015550100"), SuppressionEntry("x"),
        SuppressionEntry("x", level="global"), SuppressionEntry(email="known@example.com"),
        SuppressionEntry(email="KNOWN@example.com"), SuppressionEntry(email="none"),
    ]  # fmt: skip
    before = engine.health().position
    ours: list[ImportResult] = []
    for size in (7, 1, 500):
        ours += [
            api.import_suppressions(entries, dry_run=True, batch_size=size)
            for api in (engine, client)
        ]
    assert all(each == ours[0] for each in ours)
    assert engine.health().position == before
    real = client.import_suppressions(entries, batch_size=7)
    assert (real.added, real.errors) == (ours[0].added, 1)


def test_entries_that_cannot_be_used_are_told_by_their_place(client: Client) -> None:
    entries = [{"email": "a@example.com"}, {"email": "nobody"}, 5, {"who": 1},
               {"contactId": "l3", "level": "plan"}, {}]  # fmt: skip
    answer = client.post(f"{API}/contacts/suppress/batch", json={"entries": entries})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["added"], found["already"], found["errors"]) == (1, 0, 5)
    assert [each["index"] for each in found["faults"]] == [1, 2, 3, 4, 5]
    assert [each["field"] for each in found["faults"]] == [
        "email", "body", "who", "scope", "contactId"
    ]  # fmt: skip
    assert "nobody" not in answer.text
    everything = client.post(f"{API}/contacts/suppress/batch", json={"entries": [], "level": "x"})
    refused(everything, 422, "InvalidInput", "level")
    more = client.post(f"{API}/contacts/suppress/batch", json={"entries": [{}] * 10_001})
    refused(more, 422, "InvalidInput", "entries")


# --- who acts, and what holds keep ----------------------------------------------------------------


def test_the_log_says_who_was_signed_in(engine: Engine, tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path)
    with listening(engine, settings) as url:
        with DeeClient(url, tokens["admin"]) as client:
            client.publish_policy({"limits": {"perDay": {"contact": 3}}})
            client.publish_sender(address="team@example.com", name="Team")
            engine.execute(engine.get_plan("outreach"), {"id": "c1"})
            hold = client.place_hold(contact_id="c1", reason="court order")
            assert hold.actor == "admin-token"
            with pytest.raises(HoldInForce):
                client.erase_contact("c1", "asked")
        with DeeClient(url, tokens["operator"]) as client:
            client.publish_script("again", greeting="Hello")
            assert client.import_suppressions(many(1), reason="list").added == 1
            forbidden: list[Callable[[], Any]] = [
                lambda: client.publish_policy({}),
                lambda: client.publish_sender(address="team@example.com"),
                lambda: client.lift_hold("hold_1", "over"),
                lambda: client.export_run("run_x"),
            ]
            for call in forbidden:
                with pytest.raises(ApiRefused, match="NotAllowed"):
                    call()
        with DeeClient(url, tokens["viewer"]) as client:
            assert client.holds() == engine.holds() == [hold]
            known = engine.contact_id_for(email="p0@example.com")
            assert client.contact_id_for(email="P0@example.com") == known
            with pytest.raises(ApiRefused, match="NotAllowed"):
                client.import_suppressions(many(1))
    actors = {
        each.action: each.actor
        for each in engine.audit.query(limit=1_000).entries
        if each.action in ("policy.published", "sender.published", "script.published")
    }
    assert actors["policy.published"] == actors["sender.published"] == "admin-token"
    assert engine.get_contact_logs(known)[0].actor == "operator-token"


def test_addresses_are_in_no_address(lossy: tuple[Engine, DeeClient, Lossy]) -> None:
    """What stands in a path or a query stands in the logs of every proxy."""
    _, client, way = lossy
    client.contact_id_for(email="ada@example.com", phone="+15550100")
    client.import_suppressions([SuppressionEntry(email="ada@example.com")])
    assert all("example" not in each and "5550100" not in each for each in way.asked)


# --- definitions ----------------------------------------------------------------------------------


def test_definitions_are_read_as_they_were_published(engine: Engine) -> None:
    before = [{"id": name, "version": 1} for name in engine.list_definitions("script")]
    with served(engine, **MEANT) as client:
        path = f"{API}/definitions"
        given = {"id": "again", "greeting": "Hello", "steps": [{"type": "speak", "text": "Bye"}]}
        assert client.post(f"{path}/script", json=given).json() == {"id": "again", "version": 1}
        found = client.get(f"{path}/script/again").json()
        assert (found["kind"], found["version"]) == ("script", 1)
        assert found["definition"] == engine.get_definition("script", "again")
        assert client.get(f"{path}/script").json() == {
            "definitions": [{"id": "again", "version": 1}, *before]
        }
        bad = {**given, "steps": [{"type": "sing"}]}
        assert client.post(f"{path}/script", json=bad).json()["error"] == "InvalidInput"
        refused(client.get(f"{path}/script/none"), 404, "DefinitionNotFound", "script")
        refused(client.get(f"{path}/plan/outreach"), 422, "InvalidInput", "kind")
        policy = {"windows": {"channels": {"email": {"onUnknownZone": "Etc/Nowhere"}}}}
        answer = refused(
            client.post(f"{path}/policy", json=policy), 422, "InvalidInput",
            "policy.windows.channels.email.onUnknownZone",
        )  # fmt: skip
        assert "knows no zone 'Etc/Nowhere'" in answer["detail"]


def test_a_version_of_a_definition_is_the_one_that_was(engine: Engine) -> None:
    with listening(engine) as url, DeeClient(url) as client:
        client.publish_policy({"limits": {"perDay": {"contact": 3}}})
        client.publish_policy({"limits": {"perDay": {"contact": 4}}})
        for version in (None, 1, 2):
            found = client.get_definition("policy", "default", version)
            assert found == engine.get_definition("policy", "default", version)
        with pytest.raises(InvalidInput, match="version 3 has not been published"):
            client.get_definition("policy", "default", 3)
