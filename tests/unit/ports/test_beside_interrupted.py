"""Whenever a thread is interrupted, what it has begun is seen through by its next wait at the
latest, and nothing of it is left."""

from __future__ import annotations

import sys
import threading

from dee_es.ports import beside
from tests.support.interruption import Interruption
from tests.unit.ports.test_beside import Line


def _interrupted(at: int) -> bool:
    """What two have begun is waited for, and that is interrupted at its `at`-th chance; says
    whether there was that chance."""
    first, second, apart, lock = Line(), Line(), Line(), threading.Lock()

    def work() -> bytes:
        with beside.holding(lock):
            return first.ask() + second.ask()

    begun, other = beside.begin(work), beside.begin(apart.ask, apart=True)
    answers = [threading.Timer(0.01, line.answer) for line in (first, second, apart)]
    for answer in answers:
        answer.start()
    interruption = Interruption(beside.__file__, at)
    # Python 3.12 sees only when tracing begins that somebody wants to see opcodes.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(interruption)
    try:
        begun.wait()
    except KeyboardInterrupt:
        assert interruption.left <= 0
    else:
        assert interruption.left > 0, "it is told"
    finally:
        sys.settrace(None)
    outcomes = [each.exception() for each in (begun, other)]
    assert sum(isinstance(each, KeyboardInterrupt) for each in outcomes) <= 1
    assert all(each is None or isinstance(each, KeyboardInterrupt) for each in outcomes)
    assert not lock.locked()
    beside.finish()
    assert not beside.takes_turns()
    assert beside.begin(lambda: 42).done, "nothing stands before it"
    for answer, line in zip(answers, (first, second, apart), strict=True):
        answer.join()
        line.close()
    beside._here._watch.ready()
    assert beside._here._watch.ready() == [], "it would never sleep again"
    return interruption.left <= 0


def test_nothing_is_left_of_it() -> None:
    chances = 0
    while _interrupted(chances + 1):
        chances += 1
    assert chances > 20
