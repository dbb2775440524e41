"""Runs of newer code: what they decide by is not known here, and nothing is done in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dee_es import Contact
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.runs import rules
from dee_es.engine import definitions
from dee_es.errors import UnknownEventVersion
from tests.support.engines import open_engine, outreach, publish_basics

ADA = Contact(id="ada", email="ada@example.com", firstName="Ada")
BEN = Contact(id="ben", email="ben@example.com", firstName="Ben")
KNOWN = rules.RULES


def test_a_run_under_rules_of_newer_code_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, keys = f"sqlite:///{tmp_path / 'dee.db'}", tmp_path / "keys.db"
    channel = MemoryChannel()
    with monkeypatch.context() as newer, open_engine(url, keys=keys) as engine:
        newer.setattr(definitions, "RULES", KNOWN + 1)
        newer.setattr(rules, "RULES", KNOWN + 1)
        publish_basics(engine)
        theirs = engine.execute(outreach(), ADA)
    with open_engine(url, keys=keys, channel=channel) as engine:
        ours = engine.execute(outreach(), BEN)
        with pytest.raises(UnknownEventVersion, match=f"{theirs.id} decides by rules {KNOWN + 1},"):
            engine.tick()
        assert [action.run_id for action in channel.actions] == [ours.id]
        assert {run.id for run in engine.list_runs().runs} == {ours.id, theirs.id}
        with pytest.raises(UnknownEventVersion, match=f"known up to {KNOWN}; upgrade"):
            engine.cancel_run(theirs.id, reason="not known here")
        assert engine.verify_log().valid
