"""The step that completes a run."""

from __future__ import annotations

from typing import Literal

from dee_es.core.steps.base import Line, StepBase


class End(StepBase):
    """Complete the run with this outcome as soon as it is entered."""

    type: Literal["end"] = "end"
    outcome: Line
