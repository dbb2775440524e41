"""Files that somebody has sent and looks at before anything is done with them."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dee_es.web.problems import Refused

if TYPE_CHECKING:
    # Whatever a route is given is known before the routes are.
    from dee_es.doors.contacts_csv import CsvRow
    from dee_es.doors.never_text import NeverText
    from dee_es.web.api.csv_options import CsvOptions
    from dee_es.web.api.uploads import Upload

MOST: Final = 8
"""How many files are held; the oldest makes room for another one."""
FOR_S: Final = 1_800.0
"""How long a file is held, in seconds."""


@dataclass(frozen=True, slots=True)
class HeldFile:
    """Contacts in a file, what is to be done with them, its first rows, what the plan asks of them
    in vain, what separates its columns (in words), and the job of the dry run; for `actor` alone.
    """

    upload: Upload
    options: CsvOptions
    actor: str
    job_id: str
    rows: Sequence[CsvRow]
    in_vain: Sequence[NeverText] = ()
    separators: str = "commas"
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))


class HeldFiles:
    """A few files, for a while; they are gone with the process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._files: OrderedDict[str, tuple[float, HeldFile]] = OrderedDict()

    def hold(self, held: HeldFile) -> None:
        """Keep a file; those that are too old, or too many, are let go."""
        with self._lock:
            self._files[held.id] = (self._now() + FOR_S, held)
            while len(self._files) > MOST or self._outdated():
                _, (_, old) = self._files.popitem(last=False)
                old.upload.close()

    def get(self, held_id: str, actor: str) -> HeldFile:
        """A file of that person. Raises `Refused` if it is not, or no longer, here."""
        with self._lock:
            until, held = self._files.get(held_id, (0.0, None))
        if held is None or until < self._now() or held.actor != actor:
            raise Refused(404, "FileNotHeld", "the file is not here any more; send it once more")
        return held

    def let_go(self) -> None:
        """Keep none of them any more: the server ends, or a contact was erased, who may be in any
        of them."""
        with self._lock:
            while self._files:
                self._files.popitem()[1][1].upload.close()

    def _outdated(self) -> bool:
        until, _ = next(iter(self._files.values()))
        return until < self._now()
