"""The connection to an SMTP server, on which nothing lasts beyond a deadline."""

from __future__ import annotations

import io
import selectors
import smtplib
import ssl

from dee_es.adapters.channels.deadline import CHUNK, Deadline, DeadlineReader


class Server(smtplib.SMTP):
    """A connection on which nothing lasts beyond the deadline of the conversation."""

    deadline: Deadline

    def getreply(self) -> tuple[int, bytes]:
        """As `smtplib.SMTP.getreply`."""
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(DeadlineReader(self.sock, self.deadline))
        return super().getreply()

    def send(self, s: str | bytes) -> None:  # type: ignore[override]
        """As `smtplib.SMTP.send`, a piece at a time: over TLS each has the timeout to itself."""
        for start in range(0, len(s), CHUNK):
            if self.sock is not None:
                self.deadline.arm(self.sock)
            super().send(s[start : start + CHUNK])


class TlsServer(Server, smtplib.SMTP_SSL):
    """The same, with TLS from the start."""


def speaks(server: smtplib.SMTP) -> bool:
    """Whether the server has sent something that was not read, or has closed the connection."""
    if server.sock is None or server.file is None:
        return True
    timeout = server.sock.gettimeout()
    server.sock.settimeout(0)
    try:
        # What came in one packet with an earlier reply is in the reader, not in the socket. Over
        # TLS, nothing to read raises, so that nothing at all means the end.
        if server.file.peek(1) or isinstance(server.sock, ssl.SSLSocket):
            return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        server.sock.settimeout(timeout)
    with selectors.DefaultSelector() as selector:
        selector.register(server.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def quit_server(server: Server) -> None:
    """Say goodbye and close the connection, whatever the server makes of it."""
    server.deadline.begin(1)
    try:
        server.quit()
    except (OSError, smtplib.SMTPException):
        server.close()
