"""Whose certificates a channel trusts."""

from __future__ import annotations

import ssl

from dee_es.errors import InvalidInput


def trusting(ca_file: str | None, setting: str) -> ssl.SSLContext:
    """What checks a server's certificate: against `ca_file`, or else the machine's own store.

    Raises `InvalidInput` naming the setting for a file without certificates.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # Of a file that holds no certificate, ssl says so with an error of this family too.
        problem = f"{ca_file} cannot be used: {error.strerror or type(error).__name__}"
        raise InvalidInput(setting, problem) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
