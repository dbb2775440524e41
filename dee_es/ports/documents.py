"""How a document for people becomes a file."""

from __future__ import annotations

from typing import Protocol

from dee_es.core.document import Document, DocumentFormat


class DocumentWriter(Protocol):
    """Writes documents."""

    def write(self, document: Document, format: DocumentFormat) -> bytes:
        """The document as Markdown, HTML or PDF; the same document gives the same bytes."""
        ...
