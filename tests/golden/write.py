"""Adds the golden files that are missing: `python -m tests.golden.write`.

A file that is there is never written again: what was stored stays as it is.
"""

from __future__ import annotations

import json
from pathlib import Path

from dee_es.core.registry import REGISTRY
from tests.golden import lives
from tests.golden.examples import stored
from tests.golden.shape import shape_of

HERE = Path(__file__).parent


def path_of(name: str, schema: int) -> Path:
    """Where the golden file of an event's schema is."""
    return HERE / f"{name}.v{schema}.json"


def main() -> None:
    """Write the file of every event's current schema, and of every life, unless it exists."""
    for name, entry in REGISTRY.items():
        path = path_of(name, entry.schema)
        if not path.exists():
            content = {**stored(name), "shape": shape_of(entry.cls)}
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    lives.write_missing()


if __name__ == "__main__":
    main()
