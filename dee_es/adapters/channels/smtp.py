"""Email by SMTP, with a result that says exactly what is known.

One attempt is at most one SMTP transaction. The library's own `sendmail` cannot tell whether the
final dot had left when something broke, so the steps are taken one by one here:

* a refusal, or an error before the final dot: nothing was accepted, `failed` (a 5xx reply is
  permanent, all else may be tried again);
* a refusal that is no message's fault but that of our own settings is `failed` and `ours`: a 5xx
  to greeting, EHLO, STARTTLS or login, a certificate that does not verify, a server without TLS or
  a way to log in, and the codes of RFC 4954 that ask for either, to whatever command;
* the reply to the final dot: 2xx is `delivered`, 4xx and 5xx are refusals;
* anything else once the dot may have left, silence too: `unknown`.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec.structs import replace

from dee_es.adapters.channels.deadline import Deadline
from dee_es.adapters.channels.mime import Mail, build_mail
from dee_es.adapters.channels.smtp_server import Server, TlsServer, quit_server, speaks
from dee_es.adapters.channels.trust import trusting
from dee_es.core.messages.message import message_id
from dee_es.errors import InvalidInput
from dee_es.ports import Action, ChannelResult, SendContext

_IDLE_S: Final = 30.0
"""Firewalls forget quiet connections without a word, so older ones are not used again."""
_BARRED_S: Final = 30.0
"""How long nothing is tried after a fault of our own settings: a wrong password that is tried for
every run would have the account locked."""
_OURS: Final = frozenset({530, 534, 535, 538})
"""Replies that ask for TLS, for a login or for another one (RFC 4954 and 3207)."""
_MAX_REPLY: Final = 500
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the server.

    `security`: `starttls` and `tls` check the server's certificate against `ca_file`, or else the
    system's authorities, and never fall back to plain text. `timeout_s` bounds each single network
    operation, four times as much a whole conversation, `connections` how many sends go on at once.
    `helo_name` is this machine's name as told to the server; None asks the system for it. Raises
    `InvalidInput` naming the field; a password over plain text is refused except to this machine
    itself.
    """

    host: str
    port: int = 25
    security: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    ca_file: str | None = None
    helo_name: str | None = None
    connections: int = 4

    def __post_init__(self) -> None:
        if self.security not in ("none", "starttls", "tls"):
            raise InvalidInput("smtp.security", "must be none, starttls or tls")
        if not self.host or not 0 < self.port < 65536:
            raise InvalidInput("smtp.host", "needs a host name and a port from 1 to 65535")
        if not self.timeout_s > 0 or self.connections < 1:
            raise InvalidInput("smtp.timeout_s", "it and smtp.connections must be above zero")
        if (self.username is None) != (self.password is None):
            raise InvalidInput("smtp.password", "goes together with smtp.username")
        if not f"{self.username or ''}{self.password or ''}".isascii():
            raise InvalidInput("smtp.password", "it and smtp.username must be ASCII")
        if self.password and self.security == "none" and self.host not in _LOOPBACK:
            raise InvalidInput("smtp.security", "must be starttls or tls when there is a password")


class SmtpChannel:
    """Sends email through one server. Safe to share between threads.

    Connections are opened when first needed, kept, and opened anew when they went stale.
    """

    name = "smtp"
    kinds = frozenset({"email"})

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        encrypted = settings.security != "none"
        self._tls = trusting(settings.ca_file, "smtp.ca_file") if encrypted else None
        self._slots = threading.BoundedSemaphore(settings.connections)
        self._lock = threading.Lock()
        self._idle: list[tuple[Server, float]] = []
        self._barred: tuple[float, ChannelResult] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"SmtpChannel({self._settings.host}:{self._settings.port})"

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Make the attempt; see the module for what each result means.

        `error` is `smtp` and a reply code or the class of an exception; the server's own words,
        which may repeat addresses, are in `detail`.
        """
        if action.channel not in self.kinds:
            return ChannelResult("failed", error="invalid channel: is not one that smtp serves")
        try:
            mail = build_mail(action, context)
        except InvalidInput as error:
            return ChannelResult("failed", error=f"invalid {error.field}: {error.problem}")
        with self._slots:
            if self._closed:
                return ChannelResult("failed", error="smtp channel is closed", retryable=True)
            return self._barred_by() or self._noted(self._attempt(mail, action.key))

    def close(self) -> None:
        """Say goodbye on idle connections; those in use are closed when their send ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for server, _ in idle:
            quit_server(server)

    # --- faults of our own settings ---------------------------------------------------------------

    def _barred_by(self) -> ChannelResult | None:
        """The fault of our own settings that was found a moment ago."""
        with self._lock:
            since, result = self._barred or (float("-inf"), None)
        return result if time.monotonic() - since < _BARRED_S else None

    def _noted(self, result: ChannelResult) -> ChannelResult:
        if result.ours:
            # What the server said may be about this message's contact, and is no other's.
            told = replace(result, detail={"stage": result.detail.get("stage", "")})
            with self._lock:
                self._barred = time.monotonic(), told
        return result

    # --- one attempt ----------------------------------------------------------------------------

    def _attempt(self, mail: Mail, key: str) -> ChannelResult:
        transaction = _Transaction(mail)
        try:
            server = self._begun(transaction)
            transaction.hand_over(server)
        except _Refused as refusal:
            if not refusal.alive:
                transaction.abandon()
            else:
                self._keep(transaction.server)
            return refusal.result
        except Exception as error:
            # Whatever it was, it must not escape: before the dot it is known to be a failure.
            transaction.abandon()
            return transaction.broken(error)
        self._keep(transaction.server)
        return ChannelResult("delivered", message_id(key))

    def _begun(self, transaction: _Transaction) -> Server:
        """A connection on which the server has accepted MAIL."""
        server = self._reused()
        if server is not None:
            transaction.server = server
            if transaction.begin(server, reused=True):
                return server
            # 421 to MAIL: the server had enough of this connection; no transaction has begun.
            transaction.abandon()
        transaction.stage = "connect"
        server = transaction.server = self._connected(transaction)
        transaction.begin(server, reused=False)
        return server

    # --- connections ----------------------------------------------------------------------------

    def _connected(self, transaction: _Transaction) -> Server:
        settings = self._settings
        direct = settings.security == "tls"
        server: Server = (
            TlsServer(
                local_hostname=settings.helo_name, timeout=settings.timeout_s, context=self._tls
            )
            if direct
            else Server(local_hostname=settings.helo_name, timeout=settings.timeout_s)
        )
        server.deadline = Deadline(settings.timeout_s)
        transaction.server = server
        # What STARTTLS checks the certificate against is set by the constructor only when it
        # connects itself, which would leave the socket open if the greeting fails.
        server._host = settings.host  # type: ignore[attr-defined]
        code, words = server.connect(settings.host, settings.port)
        if code != 220:
            raise _Refused(code, words, "greeting")
        if server.sock is not None:
            # The dot follows the text in a packet of its own and must not wait for an answer.
            server.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.ehlo_or_helo_if_needed()
        if settings.security == "starttls":
            transaction.stage = "starttls"
            server.starttls(context=self._tls)
            server.ehlo_or_helo_if_needed()
        if settings.username is not None and settings.password is not None:
            transaction.stage = "auth"
            server.login(settings.username, settings.password)
        return server

    def _reused(self) -> Server | None:
        """An idle connection that still answers, and that has forgotten what was before."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                server, since = self._idle.pop()
            server.deadline.begin()
            try:
                if time.monotonic() - since < _IDLE_S and server.docmd("RSET")[0] == 250:
                    return server
            except (OSError, smtplib.SMTPException):
                pass
            server.close()

    def _keep(self, server: Server | None) -> None:
        if server is None or server.sock is None:
            return
        with self._lock:
            if not self._closed:
                self._idle.append((server, time.monotonic()))
                return
        quit_server(server)


class _Refused(Exception):
    """The server said no; `alive` says that the connection can be used again."""

    def __init__(self, code: int, words: bytes, stage: str, *, alive: bool = False) -> None:
        super().__init__(f"smtp {code}")
        # With 421 the server hangs up, and after what is no reply nobody knows where things stand.
        self.alive = alive and 400 <= code <= 599 and code != 421
        self.result = ChannelResult(
            "failed",
            error=f"smtp {code}",
            retryable=not 500 <= code <= 599,
            detail=_detail(stage, words),
            ours=code in _OURS or (stage == "greeting" and 500 <= code <= 599),
        )


class _Unable(_Refused):
    """The server lacks what this message needs, so it was not even asked."""

    def __init__(self, extension: str) -> None:
        super().__init__(502, b"", "mail", alive=True)
        self.result = ChannelResult("failed", error=f"smtp server without {extension}")


class _Transaction:
    """How far one message has come."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self.server: Server | None = None
        self.stage = "connect"
        self._dot_sent = False

    def begin(self, server: smtplib.SMTP, *, reused: bool) -> bool:
        """MAIL; False if a reused connection was closed by a 421 instead."""
        self.stage = "mail"
        options = f"FROM:<{self._mail.sender}>"
        size = len(self._mail.content)
        if server.has_extn("size"):
            options += f" SIZE={size}"
        if self._mail.smtputf8:
            if not server.has_extn("smtputf8"):
                raise _Unable("SMTPUTF8")
            options += " SMTPUTF8 BODY=8BITMIME"
        code, words = self._command(server, "MAIL", options)
        if code == 421 and reused:
            return False
        if code // 100 != 2:
            raise _Refused(code, words, "mail", alive=True)
        return True

    def hand_over(self, server: smtplib.SMTP) -> None:
        """RCPT, DATA, the text and the dot; returns only when the server has taken the message."""
        self.stage = "rcpt"
        code, words = self._command(server, "RCPT", f"TO:<{self._mail.recipient}>")
        if code // 100 != 2:
            raise _Refused(code, words, "rcpt", alive=True)
        self.stage = "data"
        code, words = server.docmd("DATA")
        if code != 354:
            raise _Refused(code, words, "data", alive=True)
        self.stage = "text"
        server.send(_stuffed(self._mail.content))
        if speaks(server):
            # Nothing is due yet: the server has hung up or given up, and the dot stays here.
            raise _Refused(*server.getreply(), "text")
        self.stage = "dot"
        self._dot_sent = True
        server.send(b".\r\n")
        code, words = server.getreply()
        if code // 100 in (4, 5):
            raise _Refused(code, words, "dot", alive=True)
        if code // 100 != 2:
            raise smtplib.SMTPResponseException(code, words)

    def broken(self, error: Exception) -> ChannelResult:
        """The result of an attempt that ended in an exception."""
        code = getattr(error, "smtp_code", None)
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        text = f"smtp {type(cause).__name__}" if code is None else f"smtp {code}"
        words = getattr(error, "smtp_error", b"")
        # A server may repeat the credentials it refuses.
        detail = _detail(self.stage, b"" if self.stage == "auth" else words)
        if self._dot_sent:
            return ChannelResult("unknown", error=text, detail=detail)
        permanent = isinstance(code, int) and 500 <= code <= 599
        return ChannelResult(
            "failed",
            error=text,
            retryable=not permanent,
            detail=detail,
            ours=self.stage in _BEFORE_MAIL and (permanent or _unfit(cause)),
        )

    def abandon(self) -> None:
        """Drop the connection: what the server thinks of it is not known any more."""
        if self.server is not None:
            self.server.close()

    def _command(self, server: smtplib.SMTP, verb: str, argument: str) -> tuple[int, bytes]:
        # Only a server that knows SMTPUTF8 is ever given a command that is not ASCII.
        server.command_encoding = "utf-8" if self._mail.smtputf8 else "ascii"
        return server.docmd(verb, argument)


_BEFORE_MAIL: Final = frozenset({"connect", "starttls", "auth"})
"""Stages in which the server has heard of no message yet."""


def _unfit(cause: BaseException) -> bool:
    """Whether the settings do not go with the server: no try on another day mends that."""
    if isinstance(cause, ssl.SSLError):
        # A handshake that is merely cut off may work the next time.
        cut = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
        return not isinstance(cause, cut)
    # The class itself is what smtplib raises where both sides know no common way to log in.
    return isinstance(cause, smtplib.SMTPNotSupportedError) or type(cause) is smtplib.SMTPException


def _stuffed(content: bytes) -> bytes:
    """The text as DATA wants it: a dot at the start of a line is doubled; the first is a header."""
    return content.replace(b"\n.", b"\n..")


def _detail(stage: str, words: bytes | str) -> dict[str, str]:
    """Where it happened and what the server said, in characters that the log can hold."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
    reply = "".join(char if char.isprintable() else " " for char in text)[:_MAX_REPLY].strip()
    return {"stage": stage, "reply": reply} if reply else {"stage": stage}
