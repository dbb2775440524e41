"""Restate's server: an npm package with a binary, installed into a cache of the checkout.

The install runs no scripts of the packages (one of them would report to its makers), and the
server is started with its telemetry off, on ports of this machine alone that happen to be free.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.peers import ROOT, PeerFailed

PACKAGE = "@restatedev/restate-server"
WANTED = f"{PACKAGE}@1"
CACHE = ROOT / ".cache" / "restate"
_READY_S = 60


def binary() -> Path:
    """Where the server is once it is installed."""
    system = platform.system().lower()
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return CACHE / "node_modules" / f"{PACKAGE}-{system}-{machine}" / "bin" / "restate-server"


def version() -> str | None:
    """The version that is installed, if one is."""
    try:
        text = (CACHE / "node_modules" / PACKAGE / "package.json").read_text(encoding="utf-8")
    except OSError:
        return None
    return str(json.loads(text)["version"])


def ensure() -> str | None:
    """Install the server if it is not there; says what is missing if that cannot be done."""
    if binary().exists():
        return None
    if shutil.which("npm") is None:
        return f"npm is not on the PATH, and {PACKAGE} comes by npm; install Node.js 20 or newer"
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"Installing {WANTED} into {CACHE.relative_to(ROOT)} ...", file=sys.stderr)
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    done = subprocess.run(
        [*command, "--prefix", str(CACHE), WANTED], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or "no reason given").splitlines()[-1]
        return f"npm could not install {WANTED}: {said}"
    if not binary().exists():
        return f"{WANTED} has no server for {platform.system()} on {platform.machine()}"
    return None


@dataclass(frozen=True, slots=True)
class Served:
    """A server with its service registered: the port for calls."""

    port: int


@contextmanager
def served(folder: Path, partitions: int, workers: int) -> Iterator[Served]:
    """The server and the service behind hypercorn, both stopped at the end."""
    ingress, admin, node, service = _free_ports(4)
    with ExitStack() as stack:
        environment = {
            **os.environ,
            "RESTATE_DEFAULT_NUM_PARTITIONS": str(partitions),
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
        }
        server = [str(binary()), "--base-dir", str(folder / "data"), "--no-logo"]
        server += ["--listen-mode", "tcp", "--bind-address", f"127.0.0.1:{node}"]
        server += ["--node-name", "bench"]
        stack.enter_context(_process(server, folder / "server.log", environment))
        settings = folder / "hypercorn.toml"
        settings.write_text(
            f'bind = "127.0.0.1:{service}"\n'
            "h2_max_concurrent_streams = 2147483647\n"
            "keep_alive_max_requests = 2147483647\n"
            "keep_alive_timeout = 2147483647\n"
            f"workers = {workers}\n",
            encoding="utf-8",
        )
        hypercorn = [sys.executable, "-m", "hypercorn", "--config", str(settings)]
        hypercorn.append("scripts.benchmarks.peers.restate_service:app")
        stack.enter_context(_process(hypercorn, folder / "hypercorn.log", dict(os.environ)))
        _until_ready(admin, "/health")
        _until_ready(admin, "/deployments", {"uri": f"http://127.0.0.1:{service}"})
        yield Served(ingress)


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(port: int, path: str, body: dict[str, Any] | None = None) -> None:
    """Ask until it is answered well: both need a moment to start."""
    method, text = ("GET", None) if body is None else ("POST", json.dumps(body))
    deadline = time.monotonic() + _READY_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_READY_S)
        try:
            connection.request(method, path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            if answer.status < 300:
                return
            problem = f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise PeerFailed(f"{path} was not ready after {_READY_S} s: {problem}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
