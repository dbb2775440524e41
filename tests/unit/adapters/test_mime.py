"""An email as bytes: what a line may hold, what a reader makes of it, and what is refused."""

from __future__ import annotations

import itertools
import re
from email import message_from_bytes
from email.message import Message as Parsed
from email.utils import getaddresses
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dee_es.adapters.channels.mime import Mail, build_mail
from dee_es.errors import InvalidInput
from tests.support.channels.mail import CONTEXT, HEADERS, an_email, context, decoded, key, parts

BARE = {"sender_name": None, "postal_address": None, "unsubscribe_url": None}
# What may stand in a header: no control characters, and no line ends of any kind.
_CHARS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029")
_ASCII = st.characters(min_codepoint=32, max_codepoint=126)
_WORDS = st.lists(st.text(_ASCII, min_size=1, max_size=90), max_size=12).map(" ".join)
_HEADERS = st.one_of(st.text(_CHARS, max_size=300), st.text(_ASCII, max_size=300), _WORDS).filter(
    lambda text: len(text) <= 500
)


def head(mail: Mail) -> list[str]:
    """The lines of the header, as they are folded."""
    return mail.content.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def unfolded(mail: Parsed, name: str) -> str:
    """A header in one line, as readers put it together."""
    return str(mail[name]).replace("\r\n", "")


def mailbox(mail: Parsed, name: str) -> tuple[str, str]:
    """Name and address of a header's one mailbox, as a reader shows them."""
    ((shown, address),) = getaddresses([unfolded(mail, name)])
    return decoded(shown), address


def body(text: str, **changes: Any) -> Parsed:
    """The message of a plain text and nothing else."""
    return message_from_bytes(
        build_mail(an_email(1, text=text, html=None), context(**{**BARE, **changes})).content
    )


def lines_of(mail: Parsed) -> list[str]:
    payload = mail.get_payload()
    assert isinstance(payload, str)
    return payload.split("\r\n")


# --- headers ------------------------------------------------------------------------------------


@given(_HEADERS, _HEADERS)
@example("x" * 67, "y" * 70)
@example("x" * 68, '"' * 70)
@example("x" * 80, "")
@example("short " + "x" * 80, "")
@example("a " * 33 + "b", "Ada, Countess")
@example("word " * 60, "=?utf-8?q?Ada?=")
@example("x" * 68 + " y", " Ada ")
@example("é" * 200, "é" * 200)
@example("=?utf-8?q?x?=", "\\")
def test_whatever_is_said_lines_are_short_and_readers_see_it(subject: str, name: str) -> None:
    mail = build_mail(an_email(1, subject=subject), context(sender_name=name))
    parsed = message_from_bytes(mail.content)
    assert parsed.keys() == [each for each in HEADERS if each != "Reply-To"]
    for line in head(mail):
        if not line.startswith(("From:", "Message-ID:", "List-Unsubscribe:")):
            assert len(line) <= 76, line
        assert line.strip(), "a line of spaces ends the header for some"
        assert all(len(word) <= 75 for word in re.findall(r"=\?utf-8\?B\?\S*", line))
    assert decoded(unfolded(parsed, "Subject")) == subject
    assert mailbox(parsed, "From") == (name.strip(), "sales@acme.example")


def test_a_long_subject_fills_its_lines() -> None:
    subject = " ".join("x" * (7 * at % 11 + 1) for at in range(60))
    content = build_mail(an_email(1, subject=subject), CONTEXT).content.decode()
    folded = content[content.index("Subject:") : content.index("\r\nDate:")].split("\r\n")
    assert len(folded) > 3
    for line, after in itertools.pairwise(folded):
        assert len(line) <= 76 < len(line) + 1 + len(after.split()[0])


@pytest.mark.parametrize("field", ["sender_name", "reply_to"])
@pytest.mark.parametrize("name", ["a{}", "a, {}"])
def test_a_name_and_its_address_are_folded_apart(field: str, name: str) -> None:
    for length in range(50, 80):
        long = name.format("x" * length)
        if field == "reply_to":
            mail = build_mail(an_email(1, reply_to=f"{long} <sales@acme.example>"), CONTEXT)
        else:
            mail = build_mail(an_email(1), context(sender_name=long))
        header = "Reply-To" if field == "reply_to" else "From"
        assert mailbox(message_from_bytes(mail.content), header) == (long, "sales@acme.example")
        lines = [line for line in head(mail) if line.startswith((f"{header}:", " "))]
        assert all(len(line) <= 78 for line in lines), lines


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Acme Sales", "From: Acme Sales <sales@acme.example>"),
        ("Acme, Inc.", 'From: "Acme, Inc." <sales@acme.example>'),
        ('The "A" \\ B', 'From: "The \\"A\\" \\\\ B" <sales@acme.example>'),
        ("  Acme ", "From: Acme <sales@acme.example>"),
        ("  ", "From: sales@acme.example"),
        ("Grüße", "From: =?utf-8?B?R3LDvMOfZQ==?=\r\n <sales@acme.example>"),
        ("a" * 48, f"From: {'a' * 48} <sales@acme.example>"),
        ("a" * 50, f"From: {'a' * 50}\r\n <sales@acme.example>"),
        ("=?utf-8?q?a?=", "From: =?utf-8?B?PT91dGYtOD9xP2E/PQ==?=\r\n <sales@acme.example>"),
    ],
)
def test_how_a_name_is_written(name: str, shown: str) -> None:
    content = build_mail(an_email(1), context(sender_name=name)).content
    assert content.startswith(shown.encode() + b"\r\nTo: ")


@pytest.mark.parametrize(
    "url, one_click",
    [
        ("https://acme.example/u", True),
        ("HTTPS://acme.example/u", True),
        ("http://acme.example/u", False),
        ("httpsx://acme.example/u", False),
        ("mailto:stop@acme.example", False),
    ],
)
def test_one_click_is_promised_where_it_may_be(url: str, one_click: bool) -> None:
    parsed = message_from_bytes(build_mail(an_email(1), context(unsubscribe_url=url)).content)
    assert parsed["List-Unsubscribe"] == f"<{url}>"
    expected = "List-Unsubscribe=One-Click" if one_click else None
    assert parsed["List-Unsubscribe-Post"] == expected


def test_the_longest_url_fits_into_one_line() -> None:
    longest = "https://acme.example/".ljust(900, "x")
    mail = build_mail(an_email(1), context(unsubscribe_url=longest))
    assert f"List-Unsubscribe: <{longest}>" in head(mail)
    assert max(map(len, head(mail))) <= 998
    for url in (longest + "x", "https://a.example/ b", "https://a.example/<b>", 'https://a"b', ""):
        with pytest.raises(InvalidInput, match="unsubscribe_url"):
            build_mail(an_email(1), context(unsubscribe_url=url))


def test_domains_are_written_as_every_server_understands_them() -> None:
    action = an_email(1, to="jane@münchen.example", reply_to="Ada <ada@bücher.example>")
    mail = build_mail(action, context(sender_name="", sender_address="sales@käse.example"))
    assert (mail.sender, mail.recipient) == (
        "sales@xn--kse-qla.example",
        "jane@xn--mnchen-3ya.example",
    )
    assert not mail.smtputf8
    parsed = message_from_bytes(mail.content)
    assert parsed["From"] == mail.sender
    assert parsed["To"] == mail.recipient
    assert parsed["Reply-To"] == "Ada <ada@xn--bcher-kva.example>"
    assert parsed["Message-ID"] == f"<{key(1)}@xn--kse-qla.example>"


@pytest.mark.parametrize("changes", [{"to": "jané@example.com"}, {"reply_to": "adá@example.com"}])
def test_only_an_address_asks_for_utf8_in_headers(changes: dict[str, str]) -> None:
    assert build_mail(an_email(1, **changes), CONTEXT).smtputf8
    said = build_mail(an_email(1, subject="é", text="é", html="é"), context(sender_name="é"))
    assert not said.smtputf8
    assert said.content.isascii()


@pytest.mark.parametrize(
    "time_ms, shown",
    [
        (1_740_821_400_000, "Sat, 01 Mar 2025 09:30:00 +0000"),
        (1_740_821_400_999, "Sat, 01 Mar 2025 09:30:00 +0000"),
        (-1, "Wed, 31 Dec 1969 23:59:59 +0000"),
    ],
)
def test_the_date_is_in_utc_and_whole_seconds(time_ms: int, shown: str) -> None:
    mail = build_mail(an_email(1), context(time_ms=time_ms))
    assert message_from_bytes(mail.content)["Date"] == shown


# --- bodies -------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400))
@example("a" * 900)
@example("a" * 901)
@example("日本語" * 99)
@example("é and much else in plain letters " * 9)
@example(" \t\r\n.\r\r\n--\nFrom me \n=3D")
def test_any_text_arrives_in_lines_of_allowed_length(text: str) -> None:
    mail = body(text)
    plain = re.sub("\r\n|\r", "\n", text)
    assert parts(mail) == [plain if plain.endswith("\n") else plain + "\n"]
    allowed = 998 if mail["Content-Transfer-Encoding"] == "7bit" else 76
    assert max(map(len, lines_of(mail))) <= allowed


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("plain\ttext ~", "7bit"),
        ("a" * 900, "7bit"),
        ("a" * 901, "quoted-printable"),
        ("a\x1b", "quoted-printable"),
        ("mostly plain, é", "quoted-printable"),
        ("日本語", "base64"),
    ],
)
def test_the_encoding_follows_from_the_text(text: str, encoding: str) -> None:
    assert body(text)["Content-Transfer-Encoding"] == encoding


def test_a_text_that_is_mostly_readable_stays_so_line_by_line() -> None:
    mail = body("Grüße, dear readers,\n=1 \n\nJane Doe")
    assert lines_of(mail) == [
        "Gr=C3=BC=C3=9Fe, dear readers,",
        "=3D1=20",
        "",
        "Jane Doe",
        "",
    ]


def test_a_text_that_holds_the_boundary_ends_no_part() -> None:
    boundary = f"--=_dee_{key(1)[:32]}"
    text, html = f"before\n{boundary}\nafter\n{boundary}--\n", f"<p>\n{boundary}--\n</p>\n"
    mail = build_mail(an_email(1, text=text, html=html), context(**BARE))
    assert parts(message_from_bytes(mail.content)) == [text, html]


@pytest.mark.parametrize(
    "address", ["1 High St\r\nLondon", "1 High St\rLondon", "\n1 High St\nLondon\n "]
)
def test_the_postal_address_keeps_its_lines(address: str) -> None:
    mail = build_mail(
        an_email(1, text="Hi\n\n", html="<p>x</p>\n"), context(postal_address=address)
    )
    text, html = parts(message_from_bytes(mail.content))
    assert text == "Hi\n\n1 High St\nLondon\n"
    assert html == "<p>x</p>\n<p>1 High St<br>\nLondon</p>\n"


def test_a_blank_postal_address_is_none() -> None:
    assert parts(body("Hi", postal_address=" \n")) == ["Hi\n"]


@pytest.mark.parametrize("end", ["</body>", "</BODY>", "</body\n>"])
def test_the_postal_address_stands_before_the_last_end_of_the_body(end: str) -> None:
    html = f"<body><pre>&lt;/body></body></pre>{end}</html>"
    mail = build_mail(an_email(1, html=html), context(postal_address="London"))
    shown = parts(message_from_bytes(mail.content))[1]
    assert shown == html.replace(f"{end}</html>", f"<p>London</p>\n{end}</html>\n")


# --- what is no email ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"text": None, "html": None}, "text"),
        ({"text": "a\0"}, "text"),
        ({"html": "a\0"}, "html"),
        ({"subject": "a\nb"}, "subject"),
        ({"to": "a@b.example, c@d.example"}, "to"),
        ({"reply_to": "a"}, "reply_to"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        build_mail(an_email(1, **changes), CONTEXT)


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"sender_address": "a b@c.example"}, "sender.address"),
        ({"sender_name": "a\r\nb"}, "sender.name"),
        ({"postal_address": "a\0"}, "sender.postal_address"),
        ({"time_ms": 10**18}, "time"),
    ],
)
def test_what_is_refused_of_a_sender_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        build_mail(an_email(1), context(**changes))


@pytest.mark.parametrize("wrong", ["", "a@b", "a b", "a\n", "a>", "x" * 129])
def test_a_key_is_part_of_a_header_too(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"^key: "):
        build_mail(msgspec.structs.replace(an_email(1), key=wrong), CONTEXT)
