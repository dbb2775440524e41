"""The environment that the scripts use: one of their own, or that of somebody else as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "_venv.sh"


def test_an_environment_that_is_linked_is_used_and_left_alone(tmp_path: Path) -> None:
    """Several checkouts may share it: what is installed there is for the one that made it."""
    shared, checkout = tmp_path / "shared", tmp_path / "checkout"
    (shared / "bin").mkdir(parents=True)
    (shared / "bin" / "python").symlink_to(sys.executable)
    (shared / "made-from").write_text("another checkout\n")
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / "scripts")
    (checkout / "pyproject.toml").write_text("not to be installed\n")
    (checkout / ".venv").symlink_to(shared)
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": "/elsewhere"}
    done = subprocess.run(
        ["bash", "-c", '. scripts/_venv.sh && _dee_ensure_extra x && echo "$DEE_PYTHON"; env'],
        cwd=checkout,
        env=kept,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    python, *environment = done.stdout.splitlines()
    assert python == str(shared / "bin" / "python")
    # Whatever a script starts, in whatever folder, is to run the code of its own checkout.
    assert f"PYTHONPATH={checkout}:/elsewhere" in environment
    assert (shared / "made-from").read_text() == "another checkout\n"
    assert sorted(path.name for path in shared.iterdir()) == ["bin", "made-from"]
