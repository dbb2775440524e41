"""All projections, named one by one: what folds with each append, and what catches up on demand.

The run list and its counts must be level with the log whenever somebody enrols or asks; folding the
audit trail as well would slow every tick, so it is caught up before it is read.
"""

from typing import Any, Final

from dee_es.core.projection import Projection
from projections.audit_trail import AUDIT_TRAIL
from projections.run_list import RUN_LIST

INLINE: Final[tuple[Projection[Any], ...]] = (RUN_LIST,)
LAZY: Final[tuple[Projection[Any], ...]] = (AUDIT_TRAIL,)
ALL: Final = (*INLINE, *LAZY)

__all__ = ["ALL", "AUDIT_TRAIL", "INLINE", "LAZY", "RUN_LIST"]
