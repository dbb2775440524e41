"""The file of users and tokens, readable by its owner only: argon2 hashes and digests."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dee_es.core.values import check_actor, check_text
from dee_es.errors import InvalidInput
from dee_es.web.security.roles import Role

LEAST_PASSWORD: Final = 12
"""Fewest characters of a password."""
MOST_PASSWORD: Final = 1024
_FORMAT: Final = "dee-users/1"
_TOKEN_BYTES: Final = 32
HASHER = PasswordHasher()
"""With the library's parameters: 64 MiB and three passes for each password."""


@cache
def nobodys_password() -> str:
    """A hash to check when nobody has the name, so that the time taken does not tell."""
    return HASHER.hash(secrets.token_urlsafe(_TOKEN_BYTES))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who signs in with a password."""

    name: str
    role: Role
    password: str
    """The argon2 hash."""


@dataclass(frozen=True, slots=True)
class Token:
    """A program that acts under a name; `digest` is the SHA-256 of what it sends."""

    name: str
    role: Role
    digest: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the file holds."""

    users: dict[str, User]
    tokens: dict[str, Token]

    @property
    def empty(self) -> bool:
        """Whether nobody can sign in."""
        return not self.users and not self.tokens


class Users:
    """Reads the file again when it has changed; every change of it is one whole new file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._known = Known({}, {})

    # --- asking -----------------------------------------------------------------------------------

    def known(self) -> Known:
        """Users by name and tokens by digest. Raises `InvalidInput` for a file that others can
        read, or that is none of ours."""
        with self._lock:
            try:
                found = self._path.stat()
            except FileNotFoundError:
                self._seen, self._known = None, Known({}, {})
                return self._known
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._seen:
                if found.st_mode & 0o077:
                    raise InvalidInput(
                        "users", f"others can read {self._path}; run `chmod 600 {self._path}`"
                    )
                self._known, self._seen = self._read(), mark
            return self._known

    def signed_in(self, name: str, password: str) -> User | None:
        """The user if the password is right; takes the same time for a name that nobody has."""
        user = self.known().users.get(name)
        stored = nobodys_password() if user is None else user.password
        try:
            HASHER.verify(stored, password[:MOST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def bearer(self, token: str) -> Token | None:
        """Who a token belongs to."""
        return self.known().tokens.get(_digest(token))

    # --- changing ---------------------------------------------------------------------------------

    def add_user(self, name: str, role: Role, password: str) -> None:
        """Add a user, or give one another role and password. Raises `InvalidInput`, also for a name
        that a token has: the log tells people and programs apart by their names."""
        checked = _checked_name(name)
        check_text("password", password)
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise InvalidInput("password", f"must have {LEAST_PASSWORD} characters or more")
        hashed = HASHER.hash(password)

        def add(known: Known) -> None:
            if any(token.name == checked for token in known.tokens.values()):
                raise InvalidInput("name", "is a token's; a user needs a name of its own")
            known.users[checked] = User(checked, role, hashed)

        self._change(add)

    def add_token(self, name: str, role: Role) -> str:
        """Make a token for a program; it is returned once and kept nowhere. One of the same name
        is replaced. Raises `InvalidInput` for a name that a user has."""
        checked = _checked_name(name)
        token = f"dee_{secrets.token_urlsafe(_TOKEN_BYTES)}"
        made = Token(checked, role, _digest(token))

        def add(known: Known) -> None:
            if checked in known.users:
                raise InvalidInput("name", "is a user's; a token needs a name of its own")
            _forget_token(known, checked)
            known.tokens[made.digest] = made

        self._change(add)
        return token

    def remove(self, name: str) -> bool:
        """Forget a user or a token; false if there is none of this name."""
        gone = False

        def forget(known: Known) -> None:
            nonlocal gone
            gone = known.users.pop(name, None) is not None
            gone = _forget_token(known, name) or gone

        self._change(forget)
        return gone

    def _change(self, change: Callable[[Known], object]) -> None:
        with self._locked():
            before = self.known()
            after = Known(dict(before.users), dict(before.tokens))
            change(after)
            self._write(after)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Of several programs that change the file at once, one does."""
        lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, known: Known) -> None:
        document = {
            "format": _FORMAT,
            "users": [asdict(user) for user in known.users.values()],
            "tokens": [asdict(token) for token in known.tokens.values()],
        }
        beside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}.new")
        made = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(made, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _read(self) -> Known:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["format"] != _FORMAT:
                raise ValueError
            users = [_user(each) for each in document["users"]]
            tokens = [_token(each) for each in document["tokens"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidInput("users", f"{self._path} is not a file of users") from None
        return Known({user.name: user for user in users}, {token.digest: token for token in tokens})


def _user(given: dict[str, Any]) -> User:
    return User(str(given["name"]), Role(given["role"]), str(given["password"]))


def _token(given: dict[str, Any]) -> Token:
    return Token(str(given["name"]), Role(given["role"]), str(given["digest"]))


def _forget_token(known: Known, name: str) -> bool:
    old = [digest for digest, token in known.tokens.items() if token.name == name]
    for digest in old:
        del known.tokens[digest]
    return bool(old)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _checked_name(name: str) -> str:
    checked = check_actor("name", name)
    if checked != checked.strip():
        raise InvalidInput("name", "must not begin or end with a space")
    return checked
