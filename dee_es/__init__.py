"""A deterministic, event-sourced execution engine for outbound communication.

Names are imported when they are first used, so that a program which needs one of them does not pay
for all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.client import DeeClient
    from dee_es.config import EngineConfig
    from dee_es.core.builders import steps, transitions
    from dee_es.core.contact import Contact
    from dee_es.core.plans.plan import ExecutionPlan, create_plan, load_plan
    from dee_es.core.views import RunStatus
    from dee_es.engine.models import (
        BulkResult,
        ChannelEvent,
        ExecutionRun,
        RunPage,
        SuppressionEntry,
    )

__all__ = [
    "BulkResult",
    "ChannelEvent",
    "Contact",
    "DeeClient",
    "Engine",
    "EngineConfig",
    "ExecutionPlan",
    "ExecutionRun",
    "RunPage",
    "RunStatus",
    "SuppressionEntry",
    "create_plan",
    "load_plan",
    "steps",
    "transitions",
]

_HOMES = {
    "BulkResult": "dee_es.engine.models",
    "ChannelEvent": "dee_es.engine.models",
    "Contact": "dee_es.core.contact",
    "DeeClient": "dee_es.client",
    "Engine": "dee_es.bootstrap",
    "EngineConfig": "dee_es.config",
    "ExecutionPlan": "dee_es.core.plans.plan",
    "ExecutionRun": "dee_es.engine.models",
    "RunPage": "dee_es.engine.models",
    "RunStatus": "dee_es.core.views",
    "SuppressionEntry": "dee_es.engine.models",
    "create_plan": "dee_es.core.plans.plan",
    "load_plan": "dee_es.core.plans.plan",
    "steps": "dee_es.core.builders",
    "transitions": "dee_es.core.builders",
}


def __getattr__(name: str) -> Any:
    # Only names of the table above are imported, each from its one home.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
