"""Sessions of signed-in people: kept here, by a digest of the random id in the browser's cookie."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dee_es.web.security.users import User
from dee_es.web.settings import WebSettings

_MOST: Final = 10_000
_ID_BYTES: Final = 32


@dataclass(slots=True)
class Session:
    """Who signed in; `password` is the hash then, so that a new password ends the session."""

    name: str
    password: str
    csrf: str
    began: float
    used: float


class Sessions:
    """Begins, finds and ends sessions. They end with the process, when unused, and by age."""

    def __init__(self, settings: WebSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Session] = OrderedDict()

    @property
    def cookie(self) -> str:
        """The cookie's name; the prefix binds it to this host and to TLS."""
        return "__Host-dee" if self._settings.secure_cookies else "dee_session"

    def begin(self, user: User, former: str | None) -> str:
        """A new id for somebody who has just signed in; what the browser had before is no longer
        good for anything, so nobody can have planted it."""
        name, now = secrets.token_urlsafe(_ID_BYTES), self._now()
        made = Session(user.name, user.password, secrets.token_urlsafe(_ID_BYTES), now, now)
        with self._lock:
            if former is not None:
                self._found.pop(_key(former), None)
            self._found[_key(name)] = made
            while len(self._found) > _MOST:
                self._found.popitem(last=False)
        return name

    def find(self, given: str) -> Session | None:
        """The session of a cookie, unless it has ended."""
        now = self._now()
        with self._lock:
            found = self._found.get(_key(given))
            if found is None:
                return None
            idle, age = now - found.used, now - found.began
            if idle > self._settings.session_idle_s or age > self._settings.session_most_s:
                del self._found[_key(given)]
                return None
            found.used = now
            return found

    def end(self, given: str) -> None:
        """Sign out."""
        with self._lock:
            self._found.pop(_key(given), None)


def _key(given: str) -> str:
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()
