"""Plans and policies of newer code: what this code cannot read of them is refused by name, and is
in nobody else's way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, Engine, ExecutionRun
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.engine import definitions
from dee_es.errors import UnknownEventVersion
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import served

ADA = Contact(id="ada", email="ada@example.com", firstName="Ada")
BEN = Contact(id="ben", email="ben@example.com", firstName="Ben")
OURS, THEIRS = '"type": "wait"', '"type": "rest_until"'
TOLD = r"plan 'theirs' version 1 cannot be read \(definition\.steps\.1: .*'rest_until'.*\)"


def _renamed(definition: Any, old: str, new: str) -> Any:
    return json.loads(json.dumps(definition).replace(old, new))


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExecutionRun:
    """A run that newer code has enrolled, in whose plan waits are of a kind that only it knows."""
    parts, read = definitions._parts_of, ExecutionPlan.from_definition
    with monkeypatch.context() as newer, _open(tmp_path) as engine:
        newer.setattr(definitions, "_parts_of", lambda plan: _renamed(parts(plan), OURS, THEIRS))
        newer.setattr(
            ExecutionPlan,
            "from_definition",
            lambda definition, version: read(_renamed(definition, THEIRS, OURS), version),
        )
        publish_basics(engine)
        return engine.execute(outreach("theirs"), ADA)


@pytest.fixture
def channel() -> MemoryChannel:
    return MemoryChannel()


@pytest.fixture
def engine(tmp_path: Path, channel: MemoryChannel, theirs: ExecutionRun) -> Iterator[Engine]:
    with _open(tmp_path, channel) as opened:
        yield opened


def _open(tmp_path: Path, channel: MemoryChannel | None = None) -> Engine:
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    return open_engine(url, keys=tmp_path / "keys.db", channel=channel)


def test_a_run_of_a_plan_of_newer_code_is_left_to_it(
    engine: Engine, channel: MemoryChannel, theirs: ExecutionRun
) -> None:
    ours = engine.execute(outreach(), BEN)
    with pytest.raises(UnknownEventVersion, match=f"{TOLD}.*upgrade dee-es"):
        engine.tick()
    assert [action.run_id for action in channel.actions] == [ours.id]
    with pytest.raises(UnknownEventVersion, match=TOLD):
        engine.cancel_run(theirs.id, reason="not known here")
    assert engine.get_run(theirs.id).status == "active"
    assert engine.verify_log().valid


def test_what_plans_there_are_is_known_all_the_same(engine: Engine) -> None:
    engine.publish_plan(outreach())
    assert engine.plan_ids() == ["outreach", "theirs"]
    assert engine.get_plan("outreach").version == 1
    for ask in (engine.list_plans, lambda: engine.get_plan("theirs")):
        with pytest.raises(UnknownEventVersion, match=TOLD):
            ask()


def test_a_plan_of_newer_code_is_not_published_over(engine: Engine) -> None:
    """Nobody here can tell whether it is what somebody has put right in the meantime."""
    with pytest.raises(UnknownEventVersion, match=TOLD):
        engine.execute(outreach("theirs"), BEN)
    assert engine.list_runs().total == 1


def test_an_explanation_says_who_can_decide_the_run(engine: Engine, theirs: ExecutionRun) -> None:
    (advice,) = engine.explain(theirs.id).advice
    assert advice.startswith("This code cannot decide it: plan 'theirs' version 1 cannot be read")
    assert advice.endswith("upgrade dee-es")


def test_pages_that_only_name_plans_are_shown(engine: Engine) -> None:
    with served(engine) as client:
        for path in ("/runs", "/runs?plan=theirs", "/enroll", "/contacts/ada"):
            assert client.get(path).status_code == 200, path
        refused = client.get("/plans")
    assert refused.status_code == 500
    assert "plan 'theirs' version 1 cannot be read" in refused.text


def test_a_policy_of_newer_code_is_told_by_its_version(engine: Engine) -> None:
    meta = engine._meta("publish", None, None, None)
    engine._definitions.publish("policy", "default", {"moonPhase": {}}, meta)
    run = engine.execute(outreach(), BEN)
    told = r"policy version 1 cannot be read \(policy\.moonPhase: .*\); newer code published it"
    (advice,) = engine.explain(run.id).advice
    with pytest.raises(UnknownEventVersion, match=told) as refused:
        engine.cancel_run(run.id, reason="not known here")
    assert str(refused.value) in advice
