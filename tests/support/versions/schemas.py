"""The code as it will be, or was, when an event has another schema."""

from __future__ import annotations

import pytest

from dee_es.core import codec
from dee_es.core.registry import REGISTRY, Entry


def register(monkeypatch: pytest.MonkeyPatch, name: str, entry: Entry) -> None:
    """Have the code know an event by this entry."""
    monkeypatch.setitem(REGISTRY, name, entry)
    monkeypatch.setitem(codec.CURRENT, name, codec.current_reader(name, entry))
