"""Ctrl-C at a moment of one's choice: wherever Python looks whether there was any."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

# Where Python looks whether it was interrupted: behind these.
_LOOKS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD")


@lru_cache
def _names(code: CodeType) -> dict[int, str]:
    return {each.offset: each.opname for each in dis.get_instructions(code)}


class Interruption:
    """Interrupts the thread that it is set for by `sys.settrace`, the `at`-th time that this could
    happen in the code of a file."""

    def __init__(self, file: str, at: int) -> None:
        self.left = at
        self._file = file
        self._last: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Interruption | None:
        if frame.f_code.co_filename != self._file:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            last = self._last.get(frame)
            self._last[frame] = _names(frame.f_code)[frame.f_lasti]
            if last in _LOOKS:
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
        return self


def interrupted(file: str, at: int, work: Callable[[], object]) -> bool:
    """Do this, interrupted at its `at`-th chance in the code of a file; says whether there was that
    chance. Whoever is interrupted is told."""
    interruption = Interruption(file, at)
    # Python 3.12 sees only when tracing begins that somebody wants to see opcodes.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(interruption)
    try:
        work()
    except KeyboardInterrupt:
        assert interruption.left <= 0
    else:
        assert interruption.left > 0, "it is told"
    finally:
        sys.settrace(None)
    return interruption.left <= 0
