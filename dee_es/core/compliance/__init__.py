"""A compliance report, counted from recorded events: pure, so that the same log gives the same."""

from dee_es.core.compliance.counting import SECTIONS, Counting, Needs
from dee_es.core.compliance.facts import ContactFacts, Fact, Period, RunFacts, gate_rule
from dee_es.core.compliance.figures import Figure, Positions, Ranges, Section
from dee_es.core.compliance.unsubscribes import request_kind
from dee_es.core.compliance.windows import inside

__all__ = [
    "SECTIONS",
    "ContactFacts",
    "Counting",
    "Fact",
    "Figure",
    "Needs",
    "Period",
    "Positions",
    "Ranges",
    "RunFacts",
    "Section",
    "gate_rule",
    "inside",
    "request_kind",
]
