"""`DeeClient`: the engine of a `dee serve` elsewhere, with the methods and errors of one here."""

from dee_es.client.api import DeeClient
from dee_es.client.transport import ApiRefused

__all__ = ["ApiRefused", "DeeClient"]
