"""Who is behind a proxy, as it says in `X-Forwarded-For`; nobody else is believed that."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import cast

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dee_es.errors import InvalidInput


def behind(app: ASGIApp, proxies: Sequence[str]) -> ASGIApp:
    """The application, to which a request through one of these proxies comes from the last address
    that none of them has. Raises `InvalidInput` for what is no address and no network."""
    if not proxies:
        return app
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            raise InvalidInput("trusted-proxy", f"{error}; 10.0.0.7 or 10.0.0.0/8 is one") from None
    # uvicorn has types of its own for what starlette calls the same.
    return cast(ASGIApp, ProxyHeadersMiddleware(app, list(proxies)))  # type: ignore[arg-type]
