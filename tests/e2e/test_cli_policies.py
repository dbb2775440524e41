"""Policies, consent, levels of suppression and previews, as somebody would use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli.commands import PLAN, Dee

POLICY = """\
consent: { required: [email], purpose: news }
limits: { perDay: { contact: 1 } }
"""
ADA = ("--contact", "c-1", "--email", "ada@example.com", "--attr", "firstName=Ada",
       "--var", "place=Town")  # fmt: skip


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared()


def write(dee: Dee, text: str, name: str = "policy.yaml") -> str:
    (dee.folder / name).write_text(text, encoding="utf-8")
    return name


# --- policies -------------------------------------------------------------------------------------


def test_a_policy_is_validated_without_a_database(tmp_path: Path) -> None:
    dee = Dee(tmp_path)
    file = write(dee, POLICY)
    assert dee("policy", "validate", file).stdout == "the policy is valid: consent, limits\n"
    assert dee.json("policy", "validate", file) == {"valid": True, "faults": []}
    assert "only suppressions hold" in dee("policy", "validate", write(dee, "{}")).stdout


@pytest.mark.parametrize(
    "text, field",
    [
        ("limits: {perDay: {contact: 0}}", "policy.limits.perDay.contact"),
        ("limit: {}", "policy.limit"),
        (
            "windows: {channels: {email: {onUnknownZone: Europe/Nowhere}}}",
            "policy.windows.channels.email.onUnknownZone",
        ),
        ("- a list", "policy.yaml"),
        ("a: [", "policy.yaml:1:5"),
    ],
)
def test_a_fault_of_a_policy_is_named(tmp_path: Path, text: str, field: str) -> None:
    dee = Dee(tmp_path)
    file = write(dee, text)
    assert dee.fault("policy", "validate", file).startswith(field)
    told = dee("policy", "validate", file, "--json", code=1).stdout
    assert '"valid": false' in told
    assert field in told


def test_policies_are_published_in_versions(dee: Dee) -> None:
    assert "none has been published" in dee.fault("policy", "show")
    file = write(dee, POLICY)
    assert dee("policy", "publish", file).stdout == "policy published: version 1\n"
    assert dee.json("policy", "publish", file) == {"version": 1, "unchanged": True}
    write(dee, '{"limits": {"perDay": {"contact": 2}}}', "policy.json")
    assert dee.json("policy", "publish", "policy.json") == {"version": 2, "unchanged": False}
    shown = dee("policy", "show", "--version", "1").stdout
    assert shown.startswith("# policy, version 1\n")
    assert dee.json("policy", "show")["limits"]["perDay"]["contact"] == 2
    # What is shown can be published again.
    assert dee.json("policy", "publish", write(dee, shown))["version"] == 3
    assert "version 9" in dee.fault("policy", "show", "--version", "9")


def test_a_policy_beside_a_plan_is_published_with_it(dee: Dee) -> None:
    (dee.folder / "plan.yaml").write_text(f"{PLAN}policy:\n  limits: {{perDay: {{contact: 1}}}}\n")
    assert "a sender, a policy" in dee("plan", "validate", "plan.yaml").stdout
    assert "policy default published: version 1" in dee("plan", "publish", "plan.yaml").stdout
    assert "policy default unchanged: version 1" in dee("plan", "publish", "plan.yaml").stdout
    assert dee.json("policy", "show")["limits"]["perDay"] == {"channel": {}, "contact": 1}


def test_a_bad_policy_beside_a_plan_is_a_fault_of_the_file(dee: Dee) -> None:
    (dee.folder / "plan.yaml").write_text(f"{PLAN}policy: {{budget: {{}}}}\n")
    done = dee("plan", "publish", "plan.yaml", code=1)
    assert "policy.budget." in done.stderr
    assert dee.json("plan", "list")["total"] == 0


# --- consent --------------------------------------------------------------------------------------


def test_consent_decides_whether_a_mail_goes_out(dee: Dee) -> None:
    dee("policy", "publish", write(dee, POLICY))
    grant = ("contact", "consent", "grant", "c-1", "email")
    said = dee(*grant, "--purpose", "news", "--expires", "30d", "--source", "web form",
               "--reason", "ticked the box")  # fmt: skip
    assert said.stdout == "consent of c-1 to email granted\n"
    dee("execute", "plan.yaml", *ADA)
    assert dee.json("tick")["delivered"] == 1

    told = dee.json("contact", "consent", "revoke", "c-1", "email", "--purpose", "news")
    assert told == {"contactId": "c-1", "channel": "email", "state": "revoked"}
    dee("run-until", "--for", "4d")
    dee("execute", "plan.yaml", *ADA)
    assert dee.json("tick")["delivered"] == 0


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["grant", "c-1", "fax"], "fax"),
        (["grant", "c-1", "email", "--expires", "2001-01-01T00:00Z"], "passed"),
        (["grant", "c-1", "email", "--expires", "soon"], "soon"),
        (["revoke", "c-1"], "CHANNEL"),
    ],
)
def test_wrong_consent(dee: Dee, arguments: list[str], names: str) -> None:
    assert names in dee.fault("contact", "consent", *arguments, code=2)


# --- suppression ----------------------------------------------------------------------------------


def test_levels_of_suppression(dee: Dee) -> None:
    plan = ("--plan", "welcome")
    assert dee.json("contact", "suppress", "c-1", *plan) == {"changed": True}
    assert dee.json("contact", "suppress", "c-1", "--level", "plan", *plan) == {"changed": False}
    assert "plan welcome" in dee.fault("execute", "plan.yaml", *ADA)
    # Another level is another entry.
    assert dee.json("contact", "unsuppress", "c-1") == {"changed": False}
    assert dee.json("contact", "suppress", "c-1", "--level", "regulatory") == {"changed": True}
    assert dee.json("contact", "unsuppress", "c-1", *plan) == {"changed": True}
    assert "regulatory" in dee.fault("execute", "plan.yaml", *ADA)
    assert dee.json("contact", "unsuppress", "c-1", "--level", "regulatory") == {"changed": True}
    assert dee.json("execute", "plan.yaml", *ADA)["status"] == "active"


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--level", "channel"], "--channel"),
        (["--level", "plan"], "--plan"),
        (["--level", "global", "--channel", "email"], "--level channel"),
        (["--level", "regulatory", "--plan", "x"], "--level plan"),
        (["--plan", "x", "--channel", "email"], "not for both"),
    ],
)
def test_levels_that_do_not_fit(dee: Dee, arguments: list[str], names: str) -> None:
    for command in ("suppress", "unsuppress"):
        assert names in dee.fault("contact", command, "c-1", *arguments, code=2)


# --- previews -------------------------------------------------------------------------------------


def test_a_template_is_rendered_for_attributes(dee: Dee) -> None:
    dee("plan", "publish", "plan.yaml")
    given = ("template", "render", "hello", "--attr", "firstName=Ada", "--var", "place=Town")
    text = "Hello Ada, welcome to Town. https://example.com/unsubscribe"
    assert dee(*given).stdout == f"{text}\n"
    shown = dee(*given, "--subject", "For {{contact.firstName}}").stdout
    assert shown == f"Subject: For Ada\n\n{text}\n"
    missing = dee.fault("template", "render", "hello", "--attr", "firstName=Ada")
    assert "place" in missing
    assert "Ada" not in missing


def test_a_template_is_rendered_in_text_and_html_and_in_any_version(dee: Dee) -> None:
    dee("plan", "publish", "plan.yaml")
    write(dee, "Dear {{contact.email}}", "t.txt")
    write(dee, "<p>{{contact.firstName}}</p>", "t.html")
    dee("template", "publish", "hello", "--text", "t.txt", "--html", "t.html")
    given = ("--attr", "firstName=<Ada>", "--attr", "email=a@example.com", "--var", "place=x")
    assert dee.json("template", "render", "hello", *given) == {
        "id": "hello",
        "version": 2,
        "subject": None,
        "text": "Dear a@example.com",
        "html": "<p>&lt;Ada&gt;</p>",
    }
    assert "--- HTML ---\n<p>&lt;Ada" in dee("template", "render", "hello", *given).stdout
    for old in (["hello", "--version", "1"], ["hello@1"]):
        assert dee.json("template", "render", *old, *given)["version"] == 1
    assert "twice" in dee.fault("template", "render", "hello@1", "--version", "2", code=2)
    assert "version 7" in dee.fault("template", "render", "hello@7", *given)
    assert "nothing" in dee.fault("template", "render", "nothing", *given)


def test_a_template_is_rendered_for_a_contact_as_it_was_enrolled(dee: Dee) -> None:
    dee("execute", "plan.yaml", *ADA)
    shown = dee("template", "render", "hello", "--contact", "c-1").stdout
    assert shown.startswith("Hello Ada, welcome to Town.")
    other = dee("template", "render", "hello", "--contact", "c-1", "--var", "place=City").stdout
    assert "welcome to City." in other
    assert "no run" in dee.fault("template", "render", "hello", "--contact", "c-2")
    both = ("--contact", "c-1", "--attr", "a=b")
    assert "not both" in dee.fault("template", "render", "hello", *both, code=2)


# --- senders and call scripts by themselves -------------------------------------------------------


def test_what_is_shown_of_a_sender_can_be_published_again(dee: Dee) -> None:
    assert "none has been published" in dee.fault("sender", "show")
    dee("sender", "publish", write(dee, "address: old@example.com", "old.yaml"))
    file = write(dee, "{address: new@example.com, name: Neü, tracking: {clicks: false}}", "s.yaml")
    assert dee("sender", "publish", file).stdout == "sender published: version 2\n"
    shown = dee("sender", "show").stdout
    assert shown.startswith("# sender, version 2\naddress: new@example.com\nname: Neü\n")
    again = dee.json("sender", "publish", write(dee, shown, "again.yaml"))
    assert again == {"version": 2, "unchanged": True}
    assert dee.json("sender", "show", "--version", "1")["version"] == 1
    assert "version 9 has not been published" in dee.fault("sender", "show", "--version", "9")


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "has no address"),
        ("- a", "must be a mapping"),
        ("{address: a@example.com, nam: x}", "sender.nam is not known"),
        ("{address: a@example.com, tracking: {reads: true}}", "tracking"),
    ],
)
def test_a_fault_of_a_sender_is_named(dee: Dee, text: str, problem: str) -> None:
    told = dee.fault("sender", "publish", write(dee, text, "s.yaml"))
    assert told.startswith("s.yaml: ")
    assert problem in told


def test_what_is_shown_of_a_call_script_can_be_published_again(dee: Dee) -> None:
    text = "{greeting: Hello, steps: [{type: speak, text: 'Good-bye, {{contact.firstName}}'}]}"
    file = write(dee, text, "call.yaml")
    assert dee("script", "publish", "ask", file).stdout == "script ask published: version 1\n"
    shown = dee("script", "show", "ask@1").stdout
    assert shown.startswith("# call script ask, version 1\ngreeting: Hello\n")
    again = dee.json("script", "publish", "ask", write(dee, shown, "again.yaml"))
    assert again == {"id": "ask", "version": 1, "unchanged": True}
    listed = dee.json("script", "list")
    assert {"id": "ask", "version": 1} in listed["scripts"]
    assert "none" in dee.fault("script", "show", "none")
    wrong = write(dee, "{greeting: Hello, steps: [{type: speak}]}", "wrong.yaml")
    assert dee.fault("script", "publish", "ask", wrong).startswith("script.steps[0].text")
    assert "holds no call script" in dee.fault("script", "publish", "ask", write(dee, "- a", "l"))
