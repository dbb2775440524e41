"""Builders for plans in Python: they write what a YAML or JSON plan holds, and check nothing.

`create_plan` does the checking, so that all faults of a plan are reported together.
"""

from __future__ import annotations

from dee_es.core.builders import steps, transitions

__all__ = ["steps", "transitions"]
