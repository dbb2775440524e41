"""`dee serve` as people start it: a process of its own, on a port of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.cli.commands import ROOT, Dee, environment
from tests.support.storage.postgres import FreshPostgres
from tests.support.waiting import eventually
from tests.support.web.application import API, MEANT, PASSWORD, bearer, ended

MIB = 1024 * 1024
OPEN = "without users it is for a machine that nobody else uses: whoever is on it may act as "


@contextmanager
def serving(dee: Dee, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, once it takes requests; ended if it has not."""
    process = dee.start("serve", "--port", "0", *arguments)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"serving on (http://\S+:\d+)/; Ctrl-C stops it\n", line)
        assert found is not None, (line, process.communicate(timeout=30))
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """End the server as it is meant to be ended."""
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    *more, last = out.splitlines()
    assert (process.returncode, last, err) == (0, "stopped", "")
    assert [each for each in more if not each.startswith(OPEN)] == []


def rest_of(process: subprocess.Popen[str]) -> str:
    """What a server says from here to its end, which is asked for; what was read ahead included."""
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    return process.stdout.read()


def test_it_serves_says_where_and_stops_cleanly(tmp_path: Path) -> None:
    dee = Dee(tmp_path, {"DEE_ACTOR": "robin"}).prepared()
    with serving(dee) as (process, url), httpx.Client(base_url=url, headers=MEANT) as client:
        body = {"plan": publish(client), "contact": {"id": "c1", "email": "ada@example.com"}}
        run = client.post(f"{API}/runs", json=body).json()
        assert run["status"] == "active"
        stop(process, signal.SIGTERM)
    (entry,) = dee.json("audit", "log", "--action", "run.started")["entries"]
    assert (entry["runId"], entry["actor"]) == (run["id"], "robin")


def test_without_users_it_says_who_may_act(tmp_path: Path) -> None:
    """The address of a machine is everybody's who is on it."""
    dee = Dee(tmp_path, {"DEE_ACTOR": "robin"}).prepared()
    with serving(dee) as (process, _):
        assert rest_of(process).startswith(f"{OPEN}robin, an admin; `dee serve user add` ends that")


def test_on_postgres_it_says_where_nobody_was_found(
    tmp_path: Path, fresh_postgres: FreshPostgres
) -> None:
    """Users who were added in another folder would go unasked, without a word."""
    settings = {
        "DEE_DATABASE": fresh_postgres(),
        "DEE_KEYS": f"sqlite:///{tmp_path / 'keys.db'}",
        "DEE_MASTER_KEY_FILE": str(tmp_path / "master"),
    }
    dee = Dee(tmp_path, settings)
    dee("init")
    with serving(dee) as (process, _):
        out = rest_of(process)
    assert f"there is no {tmp_path / 'dee.users'}; DEE_USERS names where users are" in out
    assert OPEN in out
    token = dee("serve", "token", "ci", "--role", "viewer").stdout.strip()
    with serving(dee) as (process, url):
        bearers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}{API}/runs").status_code == 401
        assert httpx.get(f"{url}{API}/runs", headers=bearers).status_code == 200
        out = rest_of(process)
    assert "there is no" not in out
    assert OPEN not in out


def test_projections_are_brought_level_though_nobody_asks(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    with serving(dee) as (process, url), httpx.Client(base_url=url, headers=MEANT) as client:
        body = {"plan": publish(client), "contact": {"id": "c1", "email": "ada@example.com"}}
        assert client.post(f"{API}/runs", json=body).status_code == 201

        def lag() -> dict[str, int]:
            return dict(client.get(f"{API}/health").json()["lag"])

        assert set(lag()) >= {"audit_trail", "contact_history", "step_funnel"}
        eventually(lambda: not any(lag().values()), lambda: str(lag()))
        stop(process, signal.SIGTERM)


def test_archives_go_where_the_one_who_serves_says(tmp_path: Path) -> None:
    dee = Dee(tmp_path, {"DEE_ARCHIVES": str(tmp_path / "own")}).prepared()
    places = (str(tmp_path / "own"), str(tmp_path / "other"))
    given = {"before": "2026-01-01T00:00:00Z", "dryRun": True}
    with serving(dee, "--archive-place", places[1]) as (process, url):
        with httpx.Client(base_url=url, headers=MEANT) as client:
            for place in places:
                answer = client.post(f"{API}/audit/archive", json={**given, "place": place})
                assert ended(client, answer)["result"]["runs"] == 0
            answer = client.post(f"{API}/audit/archive", json={**given, "place": str(tmp_path)})
            assert (answer.status_code, answer.json()["field"]) == (422, "place")
        stop(process, signal.SIGTERM)


def test_no_half_of_an_answer_waits_for_the_other(tmp_path: Path) -> None:
    """Head and body are two packets; a delayed ACK between them would take 40 ms each time."""
    dee = Dee(tmp_path).prepared()
    with serving(dee) as (_, url), httpx.Client(base_url=url) as client:
        times = []
        for _ in range(30):
            began = time.perf_counter()
            assert client.get(f"{API}/session").status_code == 200
            times.append(time.perf_counter() - began)
        assert min(times[10:]) < 0.03


def test_a_head_that_never_ends_is_not_read_on(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    with serving(dee) as (process, url):
        host = url.removeprefix("http://")
        for endless in (b"GET / HTTP/1.1\r\n", b"GET /"):
            with socket.create_connection(host.split(":")) as raw:  # type: ignore[arg-type]
                raw.settimeout(20)
                raw.sendall(endless)
                sent, answer = 0, b""
                while sent < 64 * MIB and not answer:
                    try:
                        raw.sendall(b"x-more: x\r\n" * 800 if b"\n" in endless else b"x" * 8_000)
                        sent += 8_000
                        raw.setblocking(False)
                        answer = raw.recv(1_000)
                    except BlockingIOError:
                        pass
                    except ConnectionError:
                        break
                    raw.settimeout(20)
            # What stands in buffers on the way was sent as well.
            assert sent < 8 * MIB
            assert not answer or answer.startswith(b"HTTP/1.1 431 ")
        assert httpx.get(f"{url}{API}/session", headers=MEANT).status_code == 200
        stop(process, signal.SIGTERM)


def publish(client: httpx.Client) -> str:
    """Publish a plan and what it needs; its id."""
    template = {"id": "hello", "text": "Hello"}
    assert client.post(f"{API}/templates", json=template).status_code == 200
    steps = [{"id": "hello", "type": "send_email", "templateId": "hello", "subject": "Hello"}]
    plan = {"id": "welcome", "name": "Welcome", "steps": steps}
    assert client.post(f"{API}/plans", json=plan).json()["version"] == 1
    return "welcome"


def test_a_key_is_known_to_a_server_that_was_killed_and_started_anew(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    key, person = {"Idempotency-Key": "order-77"}, {"id": "c1", "email": "ada@example.com"}
    with serving(dee) as (process, url), httpx.Client(base_url=url, headers=MEANT) as client:
        body = {"plan": publish(client), "contact": person}
        run = client.post(f"{API}/runs", json=body, headers=key)
        assert run.status_code == 201
        process.kill()
    with serving(dee) as (process, url), httpx.Client(base_url=url, headers=MEANT) as client:
        again = client.post(f"{API}/runs", json=body, headers=key)
        assert (again.status_code, again.json()) == (201, run.json())
        assert again.headers["idempotent-replay"] == "true"
        other = client.post(f"{API}/runs", json={**body, "variables": {"a": 1}}, headers=key)
        assert (other.status_code, other.json()["error"]) == (422, "IdempotencyKeyReused")
        assert client.get(f"{API}/runs").json()["total"] == 1
        stop(process, signal.SIGTERM)


def test_a_big_file_takes_no_memory_and_sixty_mib_are_refused(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    wide = b"x" * (200 * 1024)
    head, rows = b"id,note\n", 200

    def content() -> Iterator[bytes]:
        yield head
        for number in range(rows):
            yield b"c%d,%s\n" % (number, wide)

    with serving(dee) as (process, url), httpx.Client(base_url=url, headers=MEANT) as client:
        path = f"{API}/runs/bulk-execute?plan=welcome&dryRun=true&dedupe=id&batchSize=10"
        as_csv = {"content-type": "text/csv"}
        publish(client)
        before = most_memory(process.pid)
        job = ended(client, client.post(path, content=content(), headers=as_csv))
        assert (job["state"], job["result"]["created"]) == ("done", rows)
        assert most_memory(process.pid) - before < 25 * MIB
        told = {**as_csv, "content-length": str(60 * MIB)}
        host = url.removeprefix("http://")
        with socket.create_connection(host.split(":")) as raw:  # type: ignore[arg-type]
            lines = [f"POST {path} HTTP/1.1", f"host: {host}", "x-dee-request: 1"]
            lines += [f"{name}: {value}" for name, value in told.items()]
            raw.sendall("\r\n".join([*lines, "", ""]).encode())
            raw.settimeout(20)
            # Not a byte of the body was sent.
            assert raw.recv(65_536).startswith(b"HTTP/1.1 413")
        stop(process, signal.SIGINT)


def most_memory(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_users_sign_in_and_tokens_are_sent(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    said = dee("serve", "user", "add", "ada", "--role", "operator", given=PASSWORD + "\n")
    assert PASSWORD not in said.stdout + said.stderr
    token = dee("serve", "token", "ci", "--role", "viewer").stdout.strip()
    file = tmp_path / "dee.users"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in file.read_text()
    assert dee.json("serve", "user", "list") == [
        {"name": "ada", "role": "operator", "signsInBy": "password"},
        {"name": "ci", "role": "viewer", "signsInBy": "token"},
    ]
    with serving(dee) as (_, url), httpx.Client(base_url=url) as client:
        assert client.get(f"{API}/runs").status_code == 401
        assert client.get(f"{API}/runs", headers=bearer(token)).json()["total"] == 0
        form = {"name": "ada", "password": PASSWORD}
        signed = client.post("/login", data=form, headers={"origin": url})
        assert signed.status_code == 303
        csrf = client.get(f"{API}/session").json()["csrfToken"]
        body = {"contactId": "c1", "reason": "asked"}
        path = f"{API}/contacts/suppress"
        assert client.post(path, json=body).status_code == 403
        assert client.post(path, json=body, headers={"x-csrf-token": csrf}).status_code == 200
        dee("serve", "user", "remove", "ci")
        assert client.get(f"{API}/runs", headers={**bearer(token), "cookie": ""}).status_code == 401
    assert "no token 'ci'" in dee.fault("serve", "user", "remove", "ci")


def test_what_would_not_be_safe_is_refused(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    for arguments in (
        ("--host", "0.0.0.0", "--allowed-host", "dee.example"),
        ("--allowed-host", "dee.example"),
        ("--trusted-proxy", "127.0.0.1"),
    ):
        said = dee.fault("serve", "--port", "0", *arguments)
        assert "nobody could sign in" in said
        assert "dee serve user add" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} cannot be had" in dee.fault("serve", "--port", port)
    assert "12 characters" in dee.fault(
        "serve", "user", "add", "x", "--role", "admin", DEE_USERS="other.users"
    )
    assert not (tmp_path / "other.users").exists()


def test_no_database_is_made(tmp_path: Path) -> None:
    assert "dee init" in Dee(tmp_path).fault("serve", "--port", "0")
    assert not (tmp_path / "dee.db").exists()


def test_without_the_web_packages_it_says_how_to_get_them(tmp_path: Path) -> None:
    program = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'fastapi' else find(name, *a)\n"
        "from dee_es.cli import main; main(['serve'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "pip install 'dee-es[web]'" in done.stderr


def test_help_does_not_load_the_web() -> None:
    program = (
        "import sys\nfrom dee_es.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'fastapi', 'uvicorn', 'argon2', 'dee_es.web', 'dee_es.bootstrap'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
    assert "serve" in done.stdout


def test_what_strangers_get_wrong_does_not_fill_the_log(tmp_path: Path) -> None:
    """A server whose standard error nobody reads would stop at a full pipe."""
    dee = Dee(tmp_path).prepared()
    with serving(dee) as (process, url):
        host = url.removeprefix("http://")
        for _ in range(20):
            with socket.create_connection(host.split(":")) as raw:  # type: ignore[arg-type]
                raw.sendall(b"\x00\x01 no request\r\n\r\n")
                raw.settimeout(20)
                assert raw.recv(1_000).startswith(b"HTTP/1.1 400 ")
        # Asserts that nothing was written there.
        stop(process, signal.SIGTERM)
