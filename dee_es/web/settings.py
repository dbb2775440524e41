"""What the web server is told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dee_es.web.hook_settings import HookSettings

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Where to serve, for whom, and how much of everything.

    `users_file` holds users and tokens; without any of them whoever is on this machine acts as
    `local_actor` with the role admin, and that only on a loopback address.
    `archive_places` are the folders and URLs, written just so, that a call about archives may name.
    `allowed_hosts` are the names, each with or without a port, under which others may reach it, and
    `trusted_proxies` the addresses or networks of the proxies that say who comes through them.
    Sizes are in bytes; `unsafe_per_minute` and `unsafe_burst` bound the requests of one client
    that change something; `login_failures` so many wrong passwords from one address
    for one name close sign-in to them for `login_window_s` seconds (5 times as many to the name, 10
    times as many to the address). `job_workers` jobs run at once and `jobs_waiting` wait;
    `uploads_at_once` files may be on their way. `hooks` is what webhooks are believed by.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    users_file: Path | None = None
    archive_places: tuple[str, ...] = ()
    local_actor: str = "local"
    max_body: int = MIB
    max_upload: int = 50 * MIB
    body_timeout_s: float = 30.0
    unsafe_per_minute: int = 1_200
    unsafe_burst: int = 300
    login_failures: int = 10
    login_window_s: float = 900.0
    session_idle_s: float = 3_600.0
    session_most_s: float = 43_200.0
    job_workers: int = 2
    jobs_waiting: int = 16
    uploads_at_once: int = 4
    hooks: HookSettings = field(default_factory=HookSettings)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers are to send the cookie over TLS only."""
        return not self.loopback or bool(self.allowed_hosts)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is the machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
