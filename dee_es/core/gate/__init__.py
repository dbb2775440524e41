"""The policy gate: what every send is asked before it may leave, one file for each rule."""

from dee_es.core.gate.evaluate import RULE_NAMES, Required, counters, evaluate, required
from dee_es.core.gate.kinds import KINDS, keeps_failed
from dee_es.core.gate.model import Policy
from dee_es.core.gate.policy_input import check_policy, read_policy
from dee_es.core.gate.reads import snapshot_from
from dee_es.core.gate.snapshot import (
    Allow,
    ConsentFact,
    Counter,
    Denial,
    Effect,
    ReadValue,
    Snapshot,
    SuppressionFact,
)
from dee_es.core.gate.suppression import enrollment_block
from dee_es.core.gate.windows import SEARCH_DAYS
from dee_es.core.gate.zone import ZoneRules

__all__ = [
    "KINDS",
    "RULE_NAMES",
    "Policy",
    "check_policy",
    "read_policy",
    "required",
    "Required",
    "Snapshot",
    "SuppressionFact",
    "ConsentFact",
    "ZoneRules",
    "SEARCH_DAYS",
    "counters",
    "keeps_failed",
    "Counter",
    "evaluate",
    "Allow",
    "Denial",
    "Effect",
    "ReadValue",
    "snapshot_from",
    "enrollment_block",
]
