"""All projections, named one by one: what folds with each append, and what catches up on demand.

The run list and its counts must be level with the log whenever somebody enrols or asks; folding the
others as well would slow every tick, so they are caught up before they are read.
"""

from typing import Any, Final

from dee_es.core.projection import Projection
from projections.audit_trail import AUDIT_TRAIL
from projections.contact_history import CONTACT_HISTORY
from projections.run_list import RUN_LIST
from projections.step_funnel import STEP_FUNNEL

INLINE: Final[tuple[Projection[Any], ...]] = (RUN_LIST,)
LAZY: Final[tuple[Projection[Any], ...]] = (AUDIT_TRAIL, CONTACT_HISTORY, STEP_FUNNEL)
ALL: Final = (*INLINE, *LAZY)

__all__ = [
    "ALL",
    "AUDIT_TRAIL",
    "CONTACT_HISTORY",
    "INLINE",
    "LAZY",
    "RUN_LIST",
    "STEP_FUNNEL",
]
