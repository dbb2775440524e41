"""Signing in over HTTP, and what each role may do."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from dee_es import Engine
from dee_es.errors import InvalidInput
from dee_es.web.security.roles import Role
from dee_es.web.security.users import Users
from tests.support.web.application import (
    API,
    FORM,
    HOST,
    PASSWORD,
    UNCHANGING,
    Client,
    bearer,
    said,
    served,
    sign_in,
    with_users,
)

MIB = 1024 * 1024


# --- signing in -----------------------------------------------------------------------------------


def test_nobody_comes_in_without_saying_who(guarded: tuple[Client, dict[str, str]]) -> None:
    client, tokens = guarded
    answer = client.get(f"{API}/runs")
    assert said(answer) == (401, "NotSignedIn")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for authorization in ("Bearer dee_guess", "Bearer", "Basic eDp5", f"Token {tokens['admin']}"):
        answer = client.get(f"{API}/runs", headers={"authorization": authorization})
        assert said(answer) == (401, "NotSignedIn")
    assert said(client.post(f"{API}/runs", json={})) == (401, "NotSignedIn")
    page = client.get("/runs", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/runs")
    assert client.get(f"{API}/runs", headers=bearer(tokens["viewer"])).status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        "/runs?status=failed&status=paused&plan=welcome&after=7d",
        "/runs?plan=%22%3E%3Cscript%3E&contact=a%26b%3Dc%23d",
        "/contacts/c1?at=2026-01-01+09:00",
        "/audit?text=caf%C3%A9%20%E2%82%AC&next=//evil.example",
        "/runs?contact=100%25",
        "/plans/a%3Fb?version=2",
    ],
)
def test_signing_in_leads_back_to_all_of_the_address(
    guarded: tuple[Client, dict[str, str]], asked: str
) -> None:
    client, _ = guarded
    sent = client.get(asked, headers={"accept": "text/html"})
    assert sent.status_code == 303
    place = sent.headers["location"]
    assert place.startswith("/login?next=/")
    assert place.count("?") == 1
    form = client.get(place, headers={"accept": "text/html"})
    shown = form.text.split('name="next" value="')[1].split('"')[0]
    assert html.unescape(shown) == asked
    answer = sign_in(client, "viewer", next=html.unescape(shown))
    assert (answer.status_code, answer.headers["location"]) == (303, asked)


@pytest.mark.parametrize(
    "asked", ["//evil.example/?a=b", "//evil.example?a=b", "/%2Fevil.example?x"]
)
def test_signing_in_leads_to_no_other_server(
    guarded: tuple[Client, dict[str, str]], asked: str
) -> None:
    client, _ = guarded
    headers = {"accept": "text/html"}
    sent = client.get(f"http://{HOST}{asked}", headers=headers).headers["location"]
    assert sent.startswith("/login?next=/")
    form = client.get(sent, headers=headers).text
    shown = html.unescape(form.split('name="next" value="')[1].split('"')[0])
    place = sign_in(client, "viewer", next=shown).headers["location"]
    assert place.startswith("/")
    assert not place.startswith("//")


@pytest.mark.parametrize(
    "asked, kept",
    [
        ("/audit?text=x", "/audit"),
        ("/%61udit/?text=x", "/audit"),
        ("/runs/../audit?text=x", "/audit"),
        ("/runs?status=failed", "/runs?status=failed"),
    ],
)
def test_signing_in_makes_no_search_that_another_site_chose(
    guarded: tuple[Client, dict[str, str]], asked: str, kept: str
) -> None:
    client, _ = guarded
    led = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    headers = {"accept": "text/html", "sec-fetch-dest": "document", **led}
    form = client.get(f"/login?next={quote(asked)}", headers=headers)
    assert f'name="next" value="{kept}"' in form.text


def test_how_long_an_answer_took_is_told_to_those_who_are_known(
    guarded: tuple[Client, dict[str, str]], local: Client
) -> None:
    client, tokens = guarded
    known = client.get(f"{API}/session", headers=bearer(tokens["viewer"]))
    for answer in (known, local.get(f"{API}/session")):
        assert re.fullmatch(r"app;dur=\d+\.\d", answer.headers["server-timing"])
    for answer in (client.get(f"{API}/session"), client.get("/login"), sign_in(client, "nobody")):
        assert "server-timing" not in answer.headers


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(
    guarded: tuple[Client, dict[str, str]],
) -> None:
    client, _ = guarded
    page = client.get("/login?next=/audit")
    assert page.status_code == 200
    assert 'name="next" value="/audit"' in page.text
    assert "<script" not in page.text
    assert " style=" not in page.text
    answer = sign_in(client, "viewer", next="/audit")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "secure" not in cookie
    assert client.get(f"{API}/session").json()["actor"] == "viewer"
    assert sign_in(client, "viewer", next="//evil.example").headers["location"] == "/"


def test_beyond_this_machine_the_cookie_is_for_tls_only(shared: Engine, tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path, allowed_hosts=("dee.example",))
    with served(shared, settings) as client:
        form = {"name": "viewer", "password": PASSWORD}
        headers = {"host": "dee.example", "origin": "https://dee.example"}
        answer = client.post("/login", data=form, headers=headers)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-dee=")
    assert "secure" in cookie.lower()


def test_what_is_shown_again_is_harmless(guarded: tuple[Client, dict[str, str]]) -> None:
    client, _ = guarded
    page = client.get('/login?next=/"><script>alert(1)</script>')
    assert "<script" not in page.text
    assert said(client.post("/login", data={"name": "x"})) == (403, "CsrfRefused")


def test_a_planted_session_is_worth_nothing(guarded: tuple[Client, dict[str, str]]) -> None:
    client, _ = guarded
    planted = "dee_session=planted-by-somebody"
    client.post("/login", data={"name": "admin", "password": PASSWORD},
                headers={**FORM, "cookie": planted})  # fmt: skip
    own = client.cookies["dee_session"]
    assert own != "planted-by-somebody"
    client.cookies.clear()
    assert said(client.get(f"{API}/runs", headers={"cookie": planted})) == (401, "NotSignedIn")
    # Signing in again leaves nothing of the former session.
    client.post("/login", data={"name": "admin", "password": PASSWORD},
                headers={**FORM, "cookie": f"dee_session={own}"})  # fmt: skip
    client.cookies.clear()
    old = client.get(f"{API}/runs", headers={"cookie": f"dee_session={own}"})
    assert said(old) == (401, "NotSignedIn")


@pytest.mark.parametrize("beside", ['theme={"dark":1}', "a=b c", "consent", "a,b=1", "expires=1"])
def test_a_session_stands_whatever_cookies_others_set(
    guarded: tuple[Client, dict[str, str]], beside: str
) -> None:
    client, _ = guarded
    sign_in(client, "viewer")
    own = client.cookies["dee_session"]
    client.cookies.clear()
    cookies = {"cookie": f"{beside}; dee_session={own}"}
    assert client.get(f"{API}/session", headers=cookies).json().get("actor") == "viewer"


def test_passwords_cannot_be_guessed_for_long(shared: Engine, tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path, login_failures=2)
    with served(shared, settings) as client:
        for _ in range(2):
            assert sign_in(client, "admin", "wrong password").status_code == 403
        closed = sign_in(client, "admin")
        assert closed.status_code == 429
        assert int(closed.headers["retry-after"]) > 600
        assert "set-cookie" not in closed.headers
        # Another one may still come in from there.
        assert sign_in(client, "viewer").status_code == 303
        # Names that nobody has are counted as well, and all together by address.
        codes = [sign_in(client, f"nobody-{n}", "x").status_code for n in range(20)]
        assert codes.count(403) == 18
        assert codes[-1] == 429


@pytest.mark.parametrize(
    "trusted, other_comes_in",
    [
        ((), 429),  # nobody is believed who it is for: all come from the proxy
        (("127.0.0.1",), 429),  # nor is another proxy before that
        (("127.0.0.0/8", "10.0.0.9"), 303),
    ],
)
def test_behind_trusted_proxies_strangers_close_sign_in_to_themselves_alone(
    shared: Engine, tmp_path: Path, trusted: tuple[str, ...], other_comes_in: int
) -> None:
    settings, _ = with_users(tmp_path, login_failures=1, trusted_proxies=trusted)
    with served(shared, settings) as client:

        def through(name: str, password: str, chain: str) -> int:
            form = {"name": name, "password": password}
            headers = {**FORM, "x-forwarded-for": chain}
            return client.post("/login", data=form, headers=headers).status_code

        # What stands before the address that the proxies have added is whatever a stranger likes.
        codes = [
            through(f"nobody-{n}", "x", f"198.51.100.{n}, 203.0.113.7, 10.0.0.9") for n in range(12)
        ]
        assert codes[-1] == 429
        assert through("viewer", PASSWORD, "203.0.113.8, 10.0.0.9") == other_comes_in


def test_a_proxy_is_an_address_or_a_network(shared: Engine, tmp_path: Path) -> None:
    for wrong in ("*", "proxy.example", "10.0.0.1/8", ""):
        settings, _ = with_users(tmp_path, trusted_proxies=(wrong,))
        with pytest.raises(InvalidInput, match="trusted-proxy"), served(shared, settings):
            pass


def test_a_wrong_name_and_a_wrong_password_look_alike(
    guarded: tuple[Client, dict[str, str]],
) -> None:
    client, _ = guarded
    one, other = sign_in(client, "admin", "wrong"), sign_in(client, "nobody", "wrong")
    assert (one.status_code, one.text) == (other.status_code, other.text)


def test_a_role_taken_away_or_a_new_password_counts_at_once(
    guarded: tuple[Client, dict[str, str]], tmp_path: Path
) -> None:
    client, tokens = guarded
    users = Users(tmp_path / "dee.users")
    sign_in(client, "admin")
    assert client.get(f"{API}/session").json()["role"] == "admin"
    users.add_user("admin", Role.ADMIN, PASSWORD + "2")
    assert said(client.get(f"{API}/session")) == (401, "NotSignedIn")
    users.remove("viewer-token")
    answer = client.get(f"{API}/runs", headers=bearer(tokens["viewer"]))
    assert said(answer) == (401, "NotSignedIn")


# --- roles ----------------------------------------------------------------------------------------


def test_every_operation_asks_for_its_role_before_its_handler(
    guarded: tuple[Client, dict[str, str]],
) -> None:
    client, tokens = guarded
    described = client.get(f"{API}/openapi.json", headers=bearer(tokens["viewer"])).json()
    order = ["viewer", "operator", "admin"]
    tried = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            needed = operation["x-dee-role"]
            filled = re.sub(r"\{\w+\}", "x", path)
            for role in order[: order.index(needed)]:
                # The body makes no sense, which nobody finds out who may not send it.
                answer = client.request(
                    method.upper(), filled, content=b"{", headers=bearer(tokens[role])
                )
                assert said(answer) == (403, "NotAllowed"), (method, path, role)
                tried += 1
            if method != "get":
                assert needed != "viewer" or path.endswith(UNCHANGING), path
    assert tried > 25
    for path in ("/contacts/x/erase", "/projections/run_list/rebuild", "/holds", "/runs/x/export",
                 "/runs/import", "/definitions/sender", "/definitions/policy"):  # fmt: skip
        answer = client.post(f"{API}{path}", json={}, headers=bearer(tokens["operator"]))
        assert said(answer) == (403, "NotAllowed")


@pytest.mark.parametrize("broken", ["{", None])
def test_a_file_of_users_that_cannot_be_read_lets_nobody_in_and_is_shown_to_nobody(
    shared: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    settings, tokens = with_users(tmp_path)
    with served(shared, settings, accept="application/json") as client:
        sign_in(client, "viewer")
        users = tmp_path / "dee.users"
        users.unlink()
        users.mkdir(0o700) if broken is None else users.write_text(broken)
        users.chmod(0o700)
        asked = [client.get(f"{API}/runs"), client.get(f"{API}/runs", headers=bearer("dee_x"))]
        client.cookies.clear()
        for answer in (*asked, sign_in(client, "viewer")):
            assert said(answer) == (503, "UsersUnreadable")
            assert "dee.users" not in answer.text
        assert client.get("/login").status_code == 200
        assert str(users) in str([vars(record) for record in caplog.records])
        if broken is not None:
            with_users(tmp_path)
            assert client.get(f"{API}/runs", headers=bearer(tokens["viewer"])).status_code == 200


def test_a_session_has_the_role_of_its_user(guarded: tuple[Client, dict[str, str]]) -> None:
    client, _ = guarded
    sign_in(client, "viewer")
    token = client.get(f"{API}/session").json()["csrfToken"]
    answer = client.post(
        f"{API}/contacts/suppress", json={"contactId": "x"}, headers={"x-csrf-token": token}
    )
    assert said(answer) == (403, "NotAllowed")


def test_only_an_admin_ends_an_admins_job(
    guarded: tuple[Client, dict[str, str]],
) -> None:
    client, tokens = guarded
    started = client.post(
        f"{API}/projections/run_list/rebuild", headers=bearer(tokens["admin"]), json={}
    )
    place = started.headers["location"]
    assert said(client.delete(place, headers=bearer(tokens["operator"]))) == (403, "NotAllowed")
    assert client.delete(place, headers=bearer(tokens["admin"])).status_code == 202


def test_changes_are_recorded_under_who_signed_in(
    guarded: tuple[Client, dict[str, str]], shared: Engine
) -> None:
    client, tokens = guarded
    client.post(
        f"{API}/contacts/suppress",
        json={"contactId": "recorded", "reason": "asked"},
        headers=bearer(tokens["operator"]),
    )
    page = shared.audit.query(contact_id="recorded")
    assert [entry.actor for entry in page.entries] == ["operator-token"]
