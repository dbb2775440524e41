"""The pages of contacts, plans, the audit trail and projections."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.engines import outreach, publish_basics
from tests.support.versions.code import BrokenRunList, engine_with
from tests.support.waiting import eventually
from tests.support.web.application import MEANT, served
from tests.support.web.site import HTML, Site, ended, job_of
from tests.support.web.world import EVIL, Page, World


def test_a_contact_as_of_a_date(site: Site) -> None:
    now = site.page("/contacts/c5").text
    assert "global" in now
    assert "granted" in now
    assert "contact.suppressed" in now
    then = site.page("/contacts/c5?at=2025-12-31", 422).text
    assert "lies before" in then
    start = site.page("/contacts/c5?at=2026-01-01+00:00").text
    assert "run.cancelled" in start
    assert "Shown as of 2026-01-01 00:00:00 UTC" in start


def test_a_contact_is_found_by_id_or_address(site: Site) -> None:
    def found(**fields: str) -> str:
        answer = site.client.post("/contacts", data=fields, headers={**HTML, **MEANT})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    assert found(contact=" c5 ") == "/contacts/c5"
    by_address = found(email="somebody@example.com")
    assert "somebody" not in by_address
    place, _, query = by_address.partition("?")
    assert place == f"/contacts/{site.world.engine.contact_id_for(email='somebody@example.com')}"
    assert query == "by=address"


def test_who_is_found_by_an_address_may_be_known_under_another_id_too(site: Site) -> None:
    """c1 was enrolled with an address and an id of its own: nobody is to read on the page of that
    address that nothing was ever written to it."""
    email = site.world.engine.run_at(site.world.runs["active"], version=1).context.contact["email"]
    answer = site.client.post("/contacts", data={"email": email}, headers={**HTML, **MEANT})
    text = Page(site.page(answer.headers["location"]).text).text
    assert "known by that address alone" in text
    assert "under an id of their own" in text
    assert "nobody can be looked up by an address" in text
    for path in ("/contacts/c1", "/contacts/c1?by=anything"):
        assert "by that address alone" not in site.page(path).text


def test_a_contact_as_of_a_time_that_is_yet_to_come(site: Site) -> None:
    assert "lies in the future" in site.page("/contacts/c5?at=2031-01-01", 422).text
    assert site.page("/contacts/c5?at=0h").status_code == 200


def test_an_id_that_is_none_is_told_in_words(site: Site) -> None:
    for path in ("/contacts/a%20b", "/runs/a%20b", "/api/v1/contacts/a%20b"):
        said = site.client.get(path, headers=HTML).text
        assert "must be 1 to 128 characters out of A-Z a-z 0-9 . _ : -" in said, path
        assert "should match" not in said


def test_a_contact_that_nobody_knows_is_told_as_such(site: Site) -> None:
    assert "Nothing is on record of contact c0-mistyped" in site.page("/contacts/c0-mistyped").text
    assert "Nothing is on record" not in site.page("/contacts/c0").text


def test_suppressing_and_lifting(acting: Site) -> None:
    engine = acting.world.engine
    acting.send("/contacts/c0/suppress", level="channel", channel="email", reason="asked for it")
    assert engine.contact_at("c0").suppressions == ("channel email",)
    assert "channel email" in acting.page("/contacts/c0").text
    again = acting.send("/contacts/c0/suppress", level="channel", channel="email", reason="again")
    assert again.headers["location"].endswith("done=suppressed-already")
    acting.send("/contacts/c0/unsuppress", level="channel", channel="email", reason="changed")
    assert engine.contact_at("c0").suppressions == ()
    for wrong in ({"level": "channel"}, {"level": "plan"}, {"level": "moon"}, {"reason": " "}):
        acting.send("/contacts/c0/suppress", 422, **{"reason": "why", **wrong})
    assert engine.contact_at("c0").suppressions == ()


def test_consent_is_put_on_record_and_taken_back(acting: Site) -> None:
    engine = acting.world.engine
    given = {"channel": "email", "purpose": "news", "expires": "2031-02-03", "reason": "signed"}
    answer = acting.send("/contacts/c0/grant-consent", source="a form", **given)
    assert "on record" in acting.page(answer.headers["location"]).text
    ((name, stands),) = engine.contact_at("c0").consents.items()
    assert ("email" in name, "news" in name) == (True, True)
    assert "granted" in stands
    (entry,) = engine.audit.query(actions=["consent.granted"], contact_id="c0").entries
    assert (entry.actor, entry.reason) == ("robin", "signed")
    del given["expires"]
    acting.send("/contacts/c0/revoke-consent", **given)
    assert "revoked" in next(iter(engine.contact_at("c0").consents.values()))
    assert "Without a purpose it is taken back for all" in acting.page("/contacts/c0").text
    acting.send("/contacts/c0/grant-consent", **given, expires="90d")
    assert "granted" in next(iter(engine.contact_at("c0").consents.values())), "it lies ahead"
    acting.send("/contacts/c0/revoke-consent", channel="email", purpose="", reason="said so")
    assert not any("granted" in each for each in engine.contact_at("c0").consents.values())
    before = engine.metrics().position
    for wrong in ({"channel": "fax"}, {"channel": ""}, {"reason": " "}, {"expires": "soon"},
                  {"purpose": "a b"}):  # fmt: skip
        acting.send("/contacts/c0/grant-consent", 422, **{**given, **wrong})
    assert engine.metrics().position == before


def test_times_are_shown_in_a_zone_that_was_chosen(acting: Site) -> None:
    run = acting.world.runs["won"]
    plain = acting.page(f"/runs/{run}").text
    assert ">UTC</a>" in plain
    answer = acting.send("/time-zone", zone="Asia/Kolkata")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    asked = {"cookie": cookie.partition(";")[0]}
    shown = acting.page(f"/runs/{run}", **asked).text
    start = acting.world.engine.get_run(run).started_at
    in_utc = start.strftime("%Y-%m-%d %H:%M:%S")
    there = (start + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S")
    assert f">{in_utc}</time>" in plain
    assert f">{there}</time>" in shown
    assert f'title="{in_utc} UTC' in shown, "the time of the log is behind it"
    assert ">Asia/Kolkata</a>" in shown
    assert "<option selected>Asia/Kolkata</option>" in acting.page("/time-zone", **asked).text
    for path in ("/runs", "/contacts/c5", "/audit", "/projections", "/health", "/jobs"):
        assert "Asia/Kolkata" in acting.page(path, **asked).text, path
    job_of(acting, acting.send("/projections/run_list/verify"))
    assert "Asia/Kolkata, wall clock" in acting.page("/jobs", **asked).text


def test_times_within_sentences_are_in_the_zone_that_was_chosen(acting: Site) -> None:
    # Two zones beside each other would make whoever reads them reckon, and reckon wrongly.
    engine, run = acting.world.engine, acting.world.runs["pending"]
    start = engine.clock.time(engine.get_run(run).start_tick)
    in_utc = f"{start:%Y-%m-%d %H:%M:%S}Z (tick"
    there = f"{start + timedelta(hours=5.5):%Y-%m-%d %H:%M:%S} (tick"
    plain = acting.page(f"/runs/{run}").text
    shown = acting.page(f"/runs/{run}", cookie="dee_zone=Asia/Kolkata").text
    assert (plain.count(in_utc) >= 2, there in plain) == (True, False)
    assert (in_utc in shown, shown.count(there) >= 2) == (False, True)


def test_times_among_what_an_event_changed_are_in_the_zone_that_was_chosen(acting: Site) -> None:
    engine, run = acting.world.engine, acting.world.runs["won"]
    (ended,) = [x for x in engine.get_timeline(run) if x.action == "run.completed"]
    page = f"/runs/{run}?version={ended.version}"
    there = f"<ins>{ended.time + timedelta(hours=5.5):%Y-%m-%d %H:%M:%S}</ins>"
    assert f"<ins>{ended.time:%Y-%m-%dT%H:%M:%S}Z</ins>" in acting.page(page).text
    shown = acting.page(page, cookie="dee_zone=Asia/Kolkata").text
    assert (there in shown, f"{ended.time:%Y-%m-%dT%H:%M:%S}Z</ins>" in shown) == (True, False)


@pytest.mark.parametrize("zone", [" ", "Mars/Base", "../../etc/passwd", "/etc/localtime", EVIL])
def test_what_is_no_zone_is_none(acting: Site, zone: str) -> None:
    acting.send("/time-zone", 422, zone=zone)
    given = {"cookie": f"dee_zone={zone.replace(';', '')}".encode("ascii", "ignore").decode()}
    assert ">UTC</a>" in acting.page("/health", **given).text


def test_parked_streams_are_shown_and_folded_again() -> None:
    fault = BrokenRunList(1)
    with engine_with(":memory:", run_list=fault) as engine, served(engine) as client:
        publish_basics(engine)
        plan = engine.publish_plan(outreach())
        for number in range(3):
            engine.execute(plan, {"id": f"c{number}", "email": f"c{number}@example.com",
                                  "firstName": "Ada"})  # fmt: skip
        engine.tick()
        acting = Site(World(engine, plan, {}), client)
        first, *others = engine.projections.parked()
        assert len(others) == 2
        acting.page("/audit?action=run.started")
        page = acting.page("/projections").text
        assert "count them" in page, "what is parked is not told by the number of runs"
        assert "count them" not in acting.page("/projections?count=yes").text
        assert Page(page).forms.count("/projections/run_list/retry") == 4
        job = job_of(acting, acting.send("/projections/run_list/retry"))
        assert job["result"] == {"streams": 0, "parked": 3}, "it is not mended yet"
        fault.one_in = 10**9
        one = acting.send("/projections/run_list/retry", stream=first.stream_id)
        assert job_of(acting, one)["result"] == {"streams": 1, "parked": 0}
        again = acting.send("/projections/run_list/retry", stream=first.stream_id)
        failed = ended(client, again.headers["location"])
        assert failed["problem"]["error"] == "InvalidInput"
        assert job_of(acting, acting.send("/projections/run_list/retry"))["result"]["streams"] == 2
        assert engine.projections.parked() == ()
        assert "/projections/run_list/retry" not in Page(acting.page("/projections").text).forms
        acting.send("/projections/nothing/retry", 404)


def test_erasing_takes_the_id_typed_and_shows_the_certificate(acting: Site) -> None:
    engine = acting.world.engine
    assert EVIL[:20] in Page(acting.page("/contacts/c0").text).text
    for typed in ("", "c", "C0", "c00"):
        acting.send("/contacts/c0/erase", 409, confirm=typed, reason="asked to")
    assert EVIL[:20] in Page(acting.page("/contacts/c0").text).text, "nothing was done"
    acting.send("/contacts/c0/erase", 422, confirm="c0", reason="")
    page = acting.send("/contacts/c0/erase", 200, confirm="c0", reason="asked to")
    assert Page(page.text).faults == []
    assert "dee-erasure/1" in page.text
    assert "The key to its personal data is destroyed." in page.text
    text = Page(acting.page("/contacts/c0").text).text
    assert EVIL[:20] not in text
    assert "the contact was erased" in text
    assert (
        engine.audit.query(actions=["contact.erased"], contact_id="c0").entries[-1].actor == "robin"
    )
    assert "nobody can read this message" in acting.page(f"/runs/{acting.world.runs['lost']}").text


def test_a_plan_in_numbers_and_beside_its_former_version(site: Site) -> None:
    page = site.page("/plans/outreach").text
    numbers = {each.step_id: each for each in site.world.engine.step_funnel("outreach", 2)}
    for step, found in numbers.items():
        row = page.split(f'<th scope="row"><span class="mono">{step}</span>')[1].split("</tr>")[0]
        told = [
            int(cell.split("<")[0].split(">")[-1].replace(",", ""))
            for cell in row.split('class="right num')[1:]
        ]
        assert told == [
            found.entered,
            found.sent,
            found.skipped,
            found.deferred,
            found.failed,
            found.exited,
            found.in_progress,
        ]
    assert "rejected" in page, "the reasons are told"
    assert "Version 1 beside version 2" in page
    assert "days&#34;: 2" in page
    assert "days&#34;: 3" in page
    assert "beside version" not in site.page("/plans/outreach?beside=0").text


def test_the_audit_trail_is_searched_by_every_filter(site: Site) -> None:
    query = site.world.engine.audit.query

    def total(path: str) -> int:
        text = site.page(path).text
        found = text.split('<p class="total"><strong class="num">')[1].split("<")[0]
        return int(found.replace(",", ""))

    run = site.world.runs["paused"]
    assert total(f"/audit?run={run}") == query(run).total
    assert total("/audit?contact=c5") == query(contact_id="c5").total
    assert total("/audit?plan=outreach&action=run.failed") == 2
    assert total("/audit?contact=c5&text=ALERT") == query(contact_id="c5", text="alert").total > 0
    assert total("/audit?since=1h&action=run.started") == 1
    assert total("/audit?until=2026-01-01") == 0
    assert total("/audit?actor=nobody") == 0
    everything = total("/audit?search=1")
    seen, path = 0, "/audit?search=1&limit=40&until=0s"
    while path:
        text = site.page(path).text
        seen += text.count('data-label="Position"')
        following = text.split('rel="next" href="')
        path = following[1].split('"')[0].replace("&amp;", "&") if len(following) > 1 else ""
    assert 0 < seen < everything, "what happens in this very tick is not before it"
    said = text.split('aria-label="Pages"')[1].split('class="num">')[1]
    assert seen == int(said.split(" of ")[1].split(",")[0])


def test_a_search_is_put_on_record_once_and_only_when_asked(acting: Site) -> None:
    engine = acting.world.engine

    def recorded() -> int:
        return engine.metrics().position

    before = recorded()
    assert "itself put on record" in acting.page("/audit").text
    acting.page("/audit?contact=c5")
    assert recorded() == before, "nothing, or one contact alone"
    text = acting.page("/audit?search=1&limit=5").text
    assert recorded() == before + 1
    acting.page(text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&"))
    assert recorded() == before + 1, "the next page belongs to the same search"
    (entry,) = engine.audit.get_at(before + 1)
    assert (entry.action, entry.actor) == ("log.exported", "robin")


def test_entries_are_given_out_and_reported_on(acting: Site) -> None:
    run, client = acting.world.runs["lost"], acting.client
    for wrong in ({"reason": ""}, {"format": "exe"}, {"since": "soon"}, {"run": "a b"}):
        acting.send("/audit/export", 422, **{"run": run, "reason": "asked", **wrong})
    job = job_of(acting, acting.send("/audit/export", run=run, format="jsonl", reason="asked"))
    assert job["state"] == "done", job
    assert f'href="{job["file"]}"' in acting.page(f"/jobs/{job['id']}").text
    content = client.get(job["file"]).text
    assert run in content
    assert "b@example.com" not in content, "personal data is given out only if that is ticked"
    acting.send("/report", 422, since="")
    acting.send("/report", 422, since="30d", include="nothing")
    made = acting.send("/report", since="2026-01-01", format="md", include=["sends", "consent"])
    job = job_of(acting, made)
    assert job["state"] == "done", job
    assert "Compliance report" in client.get(job["file"]).text
    assert f"/jobs/{job['id']}" in acting.page("/report").text


def test_the_log_is_verified_signed_and_proven(acting: Site) -> None:
    run = acting.world.runs["lost"]
    place = f"/audit/proof?stream={run}&entry=2"
    assert "checkpoint" in acting.page(place, 422).text
    acting.send("/audit/checkpoint")
    assert "checkpoint.signed" in acting.page("/audit?action=checkpoint.signed").text
    proof = acting.client.get(place, headers=HTML)
    assert proof.headers["content-disposition"].startswith("attachment")
    assert (proof.json()["stream"], proof.json()["version"]) == (run, 2)
    job = job_of(acting, acting.send("/audit/verify"))
    assert (job["state"], job["result"]["valid"]) == ("done", True)
    assert "under a checkpoint through" in acting.page(f"/runs/{run}/verify").text


def test_projections_are_verified_and_rebuilt(acting: Site) -> None:
    page = acting.page("/projections").text
    for name in acting.world.engine.projections.names:
        assert name in page
    assert job_of(acting, acting.send("/projections/run_list/verify"))["result"]["ok"] is True
    job = job_of(acting, acting.send("/projections/step_funnel/rebuild", throttle="0.9"))
    assert job["state"] == "done"
    assert "events," in acting.page("/projections").text
    acting.send("/projections/nothing/rebuild", 404)
    assert acting.page("/jobs").text.count('href="/jobs/job_') == 2


def test_a_job_is_followed_and_ended_early(acting: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(told: Callable[[int], None], *, workers: int) -> None:
        assert workers == 1
        while True:
            told(40)
            time.sleep(0.005)

    monkeypatch.setattr(acting.world.engine, "verify_log", endless)
    place = acting.send("/audit/verify").headers["location"]
    text = acting.page(place).text
    assert f'hx-get="{place}"' in text, "the page asks how far it is"
    assert f"{place}/stop" in Page(text).forms
    assert "running" in acting.page("/jobs").text
    said = acting.send(f"{place}/stop").headers["location"]
    assert "ends after the batch" in acting.page(said).text
    eventually(lambda: acting.client.get(f"/api/v1{place}").json()["state"] == "aborted")
    text = acting.page(place).text
    assert "Ended early" in text
    assert "hx-get" not in text
