"""Documents as Markdown, HTML and PDF: each read back by a reader of its format."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from pypdf import PdfReader

from dee_es.adapters.documents import Documents
from dee_es.core.document import (
    Block,
    Cell,
    Column,
    Document,
    DocumentFormat,
    Facts,
    Heading,
    PageBreak,
    Paragraph,
    Table,
)

MADE_AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FORMATS: tuple[DocumentFormat, ...] = ("md", "html", "pdf")

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; &#60;i&#62; &copy",
    "\"quoted' --> <!-- ]]> <![CDATA[",
    "**bold** _it_ __b__ ~~gone~~ `code` ``",
    "[text](javascript:alert(1)) ![image](http://example.com/x.png) [ref]: http://example.com",
    "# heading #",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "> quote",
    "=====",
    "---",
    "***",
    "| a | b |",
    "||",
    "a\\|b\\",
    "```",
    "    indented",
    "http://example.com/a?b=c www.example.com a@example.com",
    "<para><font color=red>x</font></para>",
    "(parens) \\n \\051 ) Tj ET",
    "{{template}} $x^2$ ^up^ {: .class}",
    "first\n# second\n\n- third",
]
UNSEEN = "nul \x00 esc \x1b[31m turn \u202egnp.exe\u202c lone \ud800 end"
NAMES = ["Łukasz Żółć", "Иван Петров", "Ελένη Παπαδοπούλου", "Nguyễn Thị", "李明", "김철수", "अमित"]


def document(blocks: Sequence[Block], title: str = "Report", subtitle: str = "sub") -> Document:
    return Document(title, subtitle, MADE_AT, tuple(blocks))


def everywhere(text: str) -> Document:
    """A document with the text in every place a document has for one."""
    return document(
        [
            Heading(text, 1, "top"),
            Heading(text, 3),
            Paragraph(text),
            Paragraph(text, "warning", anchor=text),
            Paragraph(text, "fixed"),
            Facts(((text, text),)),
            Table((Column(text),), [[text], [Cell(text, link="top")]], [text]),
            PageBreak(),
            Paragraph("end"),
        ],
        title=text,
        subtitle=text,
    )  # fmt: skip


def write(given: Document, format: DocumentFormat) -> bytes:
    return Documents().write(given, format)


def one_line(text: str) -> str:
    return " ".join(text.split())


class Page(HTMLParser):
    """What an HTML file holds: tags with their attributes, and the texts of its elements."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = [""]
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def html_of(given: Document) -> Page:
    return Page(write(given, "html").decode())


def markdown_of(given: Document) -> Page:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Page(reader.render(write(given, "md").decode()))


def pdf_of(given: Document) -> PdfReader:
    return PdfReader(io.BytesIO(write(given, "pdf")))


def pdf_text(given: Document) -> str:
    return "\n".join(page.extract_text() for page in pdf_of(given).pages)


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_html_is_text(text: str) -> None:
    plain, hostile = html_of(everywhere("plain")), html_of(everywhere(text))

    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    found = [one_line(each) for each in hostile.texts].count(one_line(text))
    assert found == [each.strip() for each in plain.texts].count("plain")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_markdown_is_text(text: str) -> None:
    plain, hostile = markdown_of(everywhere("plain")), markdown_of(everywhere(text))

    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    shown = one_line(" ".join(hostile.texts))
    assert shown.count(one_line(text)) >= one_line(" ".join(plain.texts)).count("plain")


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_pdf_is_text(text: str) -> None:
    def squeezed(shown: str) -> str:
        return re.sub(r"\s", "", shown)

    shown = squeezed(pdf_text(everywhere(text)))
    plain = squeezed(pdf_text(everywhere("plain"))).count("plain")
    # The lines of a fact's name and of its value are beside each other.
    assert shown.count(squeezed(text)) >= plain - 2


def test_markdown_addresses_do_not_become_links() -> None:
    """Some readers make links of addresses by themselves."""
    source = write(
        document([Paragraph("see http://a.example and www.b.example, c@d.example")]), "md"
    )
    assert b"http\\://a.example" in source
    assert b"www\\.b.example" in source
    assert b"c\\@d.example" in source


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_document_gives_the_same_bytes(
    format: DocumentFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = everywhere("Łukasz <b>")
    first = write(given, format)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert write(given, format) == first


@pytest.mark.parametrize("format", FORMATS)
def test_the_time_is_told_in_utc(format: DocumentFormat) -> None:
    elsewhere = MADE_AT.astimezone(timezone(timedelta(hours=5)))
    assert write(Document("t", "", elsewhere, ()), format) == write(
        Document("t", "", MADE_AT, ()), format
    )


@pytest.mark.parametrize("format", FORMATS)
def test_what_cannot_be_seen_is_written_out(format: DocumentFormat) -> None:
    given = everywhere(UNSEEN)
    shown = {
        "md": lambda: " ".join(markdown_of(given).texts),
        "html": lambda: " ".join(html_of(given).texts),
        "pdf": lambda: pdf_text(given),
    }[format]()
    for code in ("[U+0000]", "[U+001B]", "[U+202E]", "[U+D800]"):
        assert code in shown
    assert not set("\x00\x1b\u202e") & set(shown)


def test_html_needs_nothing_and_runs_nothing() -> None:
    page = html_of(everywhere("http://example.com/x.js"))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "form", "base")
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert b"url(" not in write(everywhere("x"), "html")
    assert b"prefers-color-scheme: dark" in write(everywhere("x"), "html")
    assert b"@media print" in write(everywhere("x"), "html")


LINKED = document(
    [
        Heading("Figures", 1, "figures"),
        Table(
            (Column("n"),),
            [[Cell("12", "entries")], [Cell("13", "odd anchor <1>")], [Cell("14", "nowhere")]],
        ),
        PageBreak(),
        Heading("Entries", 2, "entries"),
        Table((Column("positions"),), [["1-12"]], ["odd anchor <1>"]),
    ]
)


@pytest.mark.parametrize("read", [html_of, markdown_of])
def test_links_lead_to_anchors(read: Callable[[Document], Page]) -> None:
    tags = read(LINKED).tags
    targets = [str(each["href"]).removeprefix("#") for _, each in tags if each.get("href")]
    assert len(targets) == 2
    assert set(targets) <= {str(each["id"]) for _, each in tags if each.get("id")}


def test_links_lead_to_anchors_in_pdf() -> None:
    reader = pdf_of(LINKED)
    first, second = reader.pages
    links = [each.get_object() for each in first["/Annots"]]  # type: ignore[attr-defined]
    assert len(links) == 2
    for link in links:
        assert link["/Dest"][0].get_object() == second.get_object()


def test_a_pdf_has_an_outline_of_its_headings() -> None:
    blocks = [Heading("A", 1), Heading("deep", 3), Heading("B", 1), Heading("under", 2)]

    def titles(outline: object) -> object:
        if isinstance(outline, list):
            return [titles(each) for each in outline]
        return outline["/Title"]  # type: ignore[index]

    assert titles(pdf_of(document(blocks)).outline) == ["A", ["deep"], "B", ["under"]]


def test_a_pdf_says_who_made_it_when() -> None:
    info = pdf_of(document([], title="Report <1>")).metadata
    assert info is not None
    assert info.title == "Report <1>"
    assert info.creation_date == MADE_AT


def test_a_long_table_goes_over_pages_with_its_head() -> None:
    rows = [[str(number), "f" * 64] for number in range(300)]
    pages = pdf_of(document([Table((Column("Number", 1, True), Column("Digest", 2)), rows)])).pages
    texts = [page.extract_text() for page in pages]
    assert len(texts) > 5
    for number, text in enumerate(texts, start=1):
        assert f"page {number} of {len(texts)}" in text
        assert "Number" in text
        assert "Report" in text
    numbers = [int(each) for text in texts for each in re.findall(r"(?m)^(\d{1,3}) ?f{9}", text)]
    assert numbers == list(range(300))


def test_a_row_longer_than_a_page_is_shown_whole() -> None:
    words = [f"w{number:04d}" for number in range(3000)]
    text = pdf_text(document([Table((Column("a"), Column("b")), [[" ".join(words), "x"]])]))
    assert re.findall(r"w\d{4}", text) == words


def test_long_ids_and_checksums_wrap() -> None:
    reader = pdf_of(document([Facts((("Checksum", "0123456789abcdef" * 30),))]))
    ends: list[float] = []

    def visit(text: str, _cm: object, matrix: list[float], _font: object, size: float) -> None:
        if "0123456789abcdef" in text:
            ends.append(matrix[4] + len(text.strip()) * size * 0.6)

    shown = reader.pages[0].extract_text(visitor_text=visit)
    assert re.sub(r"\s", "", shown).count("0123456789abcdef") == 30
    assert len(shown.split("Checksum")[1].splitlines()) > 5


@pytest.mark.parametrize("name", NAMES)
def test_names_of_other_scripts_show(name: str) -> None:
    for format in FORMATS:
        assert write(document([Paragraph(name)]), format)
    assert name in write(document([Paragraph(name)]), "html").decode()
    assert name in write(document([Paragraph(name)]), "md").decode()
    shown = pdf_text(document([Paragraph(name), Paragraph(name, "fixed"), Heading(name)]))
    assert shown.count(name) == 3


def test_fonts_are_embedded() -> None:
    names = "Łukasz Иван Ελένη"
    page = pdf_of(document([Paragraph(names), Paragraph(names, "fixed"), Heading(names)])).pages[0]
    used = {
        str(font.get_object()["/BaseFont"]): font.get_object().get("/FontDescriptor")
        for font in page["/Resources"]["/Font"].values()  # type: ignore[index]
    }
    embedded = {name for name, described in used.items() if described is not None}
    assert all("/FontFile2" in used[name].get_object() for name in embedded)  # type: ignore[union-attr]
    assert {name.partition("+")[2] for name in embedded} == {
        "NotoSans-Regular",
        "RobotoMono-Regular",
    }


def test_a_character_without_a_font_is_named() -> None:
    shown = pdf_text(document([Paragraph("שלום \U0001f600 \U0010ffff")]))
    assert "[U+05E9]" in shown
    assert "[U+1F600]" in shown
    assert "[U+10FFFF]" in shown


@pytest.mark.parametrize("format", FORMATS)
def test_empty_parts_are_no_trouble(format: DocumentFormat) -> None:
    blocks: list[Block] = [
        Heading(""),
        Paragraph(""),
        Paragraph("", "fixed"),
        Facts(()),
        Facts((("", ""),)),
        Table((), [[]]),
        Table((Column(""),), []),
        Table((Column("a"), Column("b")), [["only one"], ["1", "2", "too many"]]),
        PageBreak(),
    ]
    assert write(document(blocks, title="", subtitle=""), format)
