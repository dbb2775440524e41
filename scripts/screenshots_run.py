"""The pictures themselves, taken by scripts/screenshots."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

SCRIPTS = Path(__file__).parent
WIDTH, HEIGHT = 1200, 840
COLOURS = 160


def main() -> None:
    """Make the demo's database, serve it, and take the pictures."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SCRIPTS / "screenshots_data")
    target: Path = parser.parse_args().folder
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dee-pictures-") as folder:
        demo = [sys.executable, SCRIPTS / "demo_run.py", "--keep", folder]
        subprocess.run(demo, check=True, stdout=subprocess.DEVNULL)
        with _served(Path(folder)) as address:
            run = _telling_run(Path(folder))
            _take(address, run, _last_wait(Path(folder), run), target)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "dee_es.cli", "serve", "--port", "0"]
    environment = {**os.environ, "DEE_ACTOR": "robin"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[2].rstrip("/;")
        finally:
            server.terminate()


def _dee(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "dee_es.cli", *arguments, "--json"]
    told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(told.stdout)


def _telling_run(folder: Path) -> str:
    """The run of somebody who was called and talked."""
    runs = _dee(folder, "runs", "list", "--limit", "2000")["runs"]
    return str(next(run["id"] for run in runs if run["outcome"] == "talked"))


def _last_wait(folder: Path, run: str) -> int:
    """The version at which it waited last: by then it had been at a branch."""
    entries = _dee(folder, "history", run)["entries"]
    return max(int(each["version"]) for each in entries if each["action"] == "wait.started")


def _take(address: str, run: str, version: int, target: Path) -> None:
    pictures = [
        ("runs", "/runs?status=failed&status=cancelled", "light"),
        ("run", f"/runs/{run}?version={version}", "light"),
        ("run-dark", f"/runs/{run}?version={version}", "dark"),
        ("plan", "/plans/crates-spring", "light"),
    ]
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=os.environ["DEE_CHROMIUM"], args=["--no-sandbox", "--disable-gpu"]
        )
        for name, path, scheme in pictures:
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(address + path, wait_until="networkidle")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            small = picture.quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(target / f"{name}.png", optimize=True)
            page.close()
            size = (target / f"{name}.png").stat().st_size
            print(f"{target / name}.png: {size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
