"""Pages for users who sign in: what each role is offered, and what is refused."""

from __future__ import annotations

from pathlib import Path

from tests.support.web.application import API, Client, bearer, ended, served, with_users
from tests.support.web.site import HTML, signed_in
from tests.support.web.world import Page, furnish, open_world

VIEWED = (
    "/report",
    "/runs",
    "/contacts/c0",
    "/audit",
    "/projections",
    "/plans/outreach",
    "/health",
    "/jobs",
)


def test_roles_hide_and_refuse_actions_and_forms_need_their_token(tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path)
    with open_world() as engine:
        world = furnish(engine)
        run = world.runs["active"]
        admin = {f"/runs/{run}/cancel", "/contacts/c0/erase", "/projections/run_list/rebuild"}
        acts = {
            "/enroll",
            "/audit/export",
            "/report",
            "/audit/verify",
            "/audit/checkpoint",
            "/projections/run_list/verify",
            "/contacts/c0/suppress",
            f"/runs/{run}/pause",
        }
        own = {f"/runs/{run}/cancel"}
        with served(engine, settings) as client:
            answer = client.get("/runs", headers=HTML)
            assert answer.headers["location"] == "/login?next=/runs"
            offered: dict[str, set[str]] = {}
            for role in ("viewer", "operator", "admin"):
                token = signed_in(client, role)
                forms: list[str] = []
                answer = client.get("/enroll", headers=HTML)
                assert answer.status_code == (403 if role == "viewer" else 200)
                forms += Page(answer.text).forms
                for path in (*VIEWED, f"/runs/{run}"):
                    answer = client.get(path, headers=HTML)
                    assert answer.status_code == 200, (role, path)
                    assert f'<span class="name">{role}</span>' in answer.text
                    forms += Page(answer.text).forms
                offered[role] = (acts | admin) & set(forms)
                assert "/logout" in forms
                assert (client.get("/runs/bulk/cancel?status=failed", headers=HTML).status_code
                        == (403 if role == "viewer" else 200))  # fmt: skip
                _refusals(client, role, token, (acts | admin) - offered[role])
            assert offered == {
                "viewer": set(),
                "operator": acts | own,
                "admin": acts | admin,
            }
            assert engine.get_run(run).status == "active", "nothing of that did anything"
            token = signed_in(client, "operator")
            form = {"key": "k" * 20, "csrf_token": token}
            assert client.post(f"/runs/{run}/pause", data=form, headers=HTML).status_code == 303
            assert engine.get_timeline(run)[-1].actor == "operator"


def _refusals(client: Client, role: str, token: str, paths: set[str]) -> None:
    for path in paths:
        form = {"key": "k" * 20, "csrf_token": token, "reason": "x", "confirm": "yes"}
        answer = client.post(path, data=form, headers=HTML)
        assert answer.status_code == 403, (role, path)
        assert "Ask somebody with the role that is needed" in answer.text
    for given in ({}, {"csrf_token": "x"}, {"csrf_token": token[:-1]}):
        answer = client.post("/audit/verify", data={"key": "k" * 20, **given}, headers=HTML)
        assert answer.status_code == 403
        assert "open for too long" in answer.text
        assert Page(answer.text).faults == []


def test_the_file_of_a_job_is_offered_to_those_who_may_have_it(tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path)
    with open_world() as engine, served(engine, settings) as client:
        run = furnish(engine).runs["active"]
        admin = bearer(tokens["admin"])
        paths = {"admin": f"{API}/runs/{run}/export", "operator": f"{API}/audit/export"}
        for needs, path in paths.items():
            given = {"runId": run} if needs == "operator" else {}
            job = ended(client, client.post(path, json=given, headers=admin), **admin)
            for role in ("viewer", "operator", "admin"):
                may = client.get(job["file"], headers=bearer(tokens[role])).status_code == 200
                assert may == (role in (needs, "admin"))
                signed_in(client, role)
                page = client.get(f"/jobs/{job['id']}", headers=HTML).text
                assert ("Get the file" in page, job["file"] in page) == (may, may), (needs, role)
