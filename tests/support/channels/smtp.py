"""A real SMTP server on this machine that records what it takes, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings

Drop = Literal["greeting", "MAIL", "RCPT", "DATA", "dot"]
"""When the server hangs up instead of replying: at which command, or after the final dot."""


@dataclass(frozen=True)
class Received:
    """One message that the server accepted, with its envelope and the raw bytes of its content."""

    mail_from: str
    recipients: tuple[str, ...]
    content: bytes
    tls: bool
    authenticated: bool
    mail_options: tuple[str, ...]


@dataclass
class RunningSmtp:
    """The server's address, and what happened at it so far.

    `replies` and `drop` may be changed while it runs. `silent_s` is how long it says nothing after
    a final dot. `counts` has `connect`, `MAIL`, `RCPT`, `DATA`, `dot` and `accept`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    ca_file: str | None = None
    replies: dict[str, str] = field(default_factory=dict)
    drop: Drop | None = None
    silent_s: float = 0.0
    taken: list[Received] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    transports: list[asyncio.Transport] = field(default_factory=list, repr=False)

    def count(self, what: str) -> None:
        """Note that `what` happened: `connect`, a command, or `accept`."""
        with self.lock:
            self.counts[what] += 1


class _Server(SMTP):
    """aiosmtpd's server, with the counts and the faults."""

    def __init__(self, shared: RunningSmtp, handler: object, **options: Any) -> None:
        self.shared = shared
        super().__init__(handler, **options)
        # It knows of TLS by STARTTLS only, and would refuse a login under TLS from the start.
        self._auth_require_tls = options.get("require_starttls", False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The second call for one connection is the one after STARTTLS.
        if self.transport is None:
            self.shared.count("connect")
            self.shared.transports.append(cast(asyncio.Transport, transport))
        super().connection_made(transport)
        if self.shared.drop == "greeting":
            transport.close()

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd looks it up by name
        self.shared.count("MAIL")
        if self.shared.drop == "MAIL":
            cast(asyncio.Transport, self.transport).close()
            return
        await super().smtp_MAIL(arg)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        self.shared.count("DATA")
        if self.shared.drop == "DATA":
            cast(asyncio.Transport, self.transport).close()
            return
        if reply := self.shared.replies.get("DATA"):
            await self.push(reply)
            return
        await super().smtp_DATA(arg)


class _Handler:
    def __init__(self, shared: RunningSmtp) -> None:
        self.shared = shared

    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if reply := self.shared.replies.get("MAIL"):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        self.shared.count("RCPT")
        if self.shared.drop == "RCPT":
            server.transport.close()
            return "421 gone"
        if reply := self.shared.replies.get("RCPT"):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.shared.count("dot")
        if reply := self.shared.replies.get("dot"):
            return reply
        with self.shared.lock:
            self.shared.counts["accept"] += 1
            self.shared.taken.append(
                Received(
                    envelope.mail_from,
                    tuple(envelope.rcpt_tos),
                    envelope.original_content,
                    server.transport.get_extra_info("sslcontext") is not None,
                    bool(session.authenticated),
                    tuple(envelope.mail_options),
                )
            )
        if self.shared.silent_s:
            await asyncio.sleep(self.shared.silent_s)
        if self.shared.drop == "dot":
            server.transport.close()
        return "250 accepted"


class _Controller(Controller):
    """Listens on a port that the system chose, which is known before anybody else can take it."""

    def __init__(self, shared: RunningSmtp, **options: Any) -> None:
        self.shared = shared
        super().__init__(_Handler(shared), hostname=shared.host, port=shared.port, **options)

    def factory(self) -> SMTP:
        return _Server(self.shared, self.handler, **self.SMTP_kwargs)

    def _create_server(self) -> Any:
        listener = socket.create_server((self.shared.host, self.shared.port))
        self.port = self.shared.port = listener.getsockname()[1]
        return self.loop.create_server(self._factory_invoker, sock=listener, ssl=self.ssl_context)


@contextlib.contextmanager
def running_smtp(
    *,
    port: int = 0,
    security: Literal["none", "starttls", "tls"] = "none",
    credentials: tuple[str, str] | None = None,
    smtputf8: bool = True,
    replies: Mapping[str, str] | None = None,
    drop: Drop | None = None,
    silent_s: float = 0.0,
    certificate: tuple[Path, Path] | None = None,
    max_bytes: int = 33_554_432,
) -> Iterator[RunningSmtp]:
    """A server on 127.0.0.1, on `port` or on one that is free.

    `replies` maps `MAIL`, `RCPT`, `DATA` or `dot` to a refusal such as `550 no such user`.
    TLS needs the `certificate` (chain and key files) of `make_certificate`.
    """
    shared = RunningSmtp(port=port, replies=dict(replies or {}), drop=drop, silent_s=silent_s)
    options: dict[str, Any] = {"enable_SMTPUTF8": smtputf8, "data_size_limit": max_bytes}
    if security != "none":
        if certificate is None:
            raise ValueError("TLS needs a certificate; see make_certificate")
        shared.ca_file = str(certificate[0])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        options["ssl_context" if security == "tls" else "tls_context"] = context
        options["require_starttls"] = security == "starttls"
    if credentials is not None:

        def authenticate(
            server: object, session: object, envelope: object, mechanism: str, given: Any
        ) -> AuthResult:
            ok = (given.login.decode(), given.password.decode()) == credentials
            # Not handled here means that the server itself says 535.
            return AuthResult(success=ok, handled=ok)

        options.update(authenticator=authenticate, auth_required=True)
    controller = _Controller(shared, **options)
    # The controller knocks once itself to see whether it runs.
    real_drop, shared.drop = shared.drop, None
    controller.start()
    shared.counts.clear()
    shared.drop = real_drop
    try:
        yield shared
    finally:
        # The controller leaves connections open behind it.
        asyncio.run_coroutine_threadsafe(_hang_up(shared), controller.loop).result(20)
        controller.stop()


async def _hang_up(shared: RunningSmtp) -> None:
    for transport in shared.transports:
        transport.abort()
    # The loop tells the protocols, and closes the sockets, in a round of its own.
    await asyncio.sleep(0.01)


@contextlib.contextmanager
def scripted_smtp(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a bare server that gives its first connection to `behave` and then closes it.

    For what no proper server does: half a reply, a reset in the middle of the text.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                behave(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # Wakes up an accept that nobody came for; closing alone does not.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


Connect = Callable[..., SmtpChannel]
"""Makes a channel to a server, or to a port; keywords are its settings."""


@contextlib.contextmanager
def smtp_channels() -> Iterator[Connect]:
    """Makes SMTP channels, and closes them in the end."""
    made: list[SmtpChannel] = []

    def connect(server: RunningSmtp | int, **settings: Any) -> SmtpChannel:
        port = server if isinstance(server, int) else server.port
        settings = {"timeout_s": 20, "helo_name": "client.example", **settings}
        made.append(SmtpChannel(SmtpSettings("127.0.0.1", port, **settings)))
        return made[-1]

    try:
        yield connect
    finally:
        for channel in made:
            channel.close()


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_certificate(folder: Path, *, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate for `host` that vouches for itself, and its key, as PEM files in `folder`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(_key(), hashes.SHA256())
    )
    chain, key = folder / "server.pem", folder / "server.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        _key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, key
