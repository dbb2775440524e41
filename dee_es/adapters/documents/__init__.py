"""Documents for people as Markdown, HTML and PDF."""

from __future__ import annotations

from dee_es.core.document import Document, DocumentFormat


class Documents:
    """A `DocumentWriter`; what a format needs is imported when it is first written."""

    def write(self, document: Document, format: DocumentFormat) -> bytes:
        """See `DocumentWriter.write`."""
        if format == "pdf":
            from dee_es.adapters.documents.pdf import write_pdf

            return write_pdf(document)
        if format == "html":
            from dee_es.adapters.documents.html import write_html

            return write_html(document).encode()
        from dee_es.adapters.documents.markdown import write_markdown

        return write_markdown(document).encode()
