"""What an email gets as it leaves: the contact's own links, and nothing else changed."""

from __future__ import annotations

import re
import time
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.core.events import Message
from dee_es.core.steps import SendEmail, Wait
from dee_es.engine.links import Links
from dee_es.engine.scheduling.tracking import Observed, Sending, leaving, unsubscribe_link

LINKS = Links("https://mail.example.com", "a-secret-for-links-of-32-characters")
SENDING = Sending("c1", "run_1", "hello", "k" * 64)
OWN = unsubscribe_link(LINKS, SENDING)
GENERAL = "https://example.com/u?a=1&b=2"
BOTH = Observed(opens=True, clicks=True)
NOTHING, CLICKS = Observed(), Observed(clicks=True)


def html(markup: str, observed: Observed = CLICKS, general: str | None = None) -> str:
    message = Message("c1@example.com", "Hello", "text", markup)
    left = leaving(message, LINKS, SENDING, observed, general)
    assert left.text == "text"
    assert left.html is not None
    return left.html


def told(markup: str) -> str:
    """The markup with each signed link as the page that it leads to."""

    def target(found: re.Match[str]) -> str:
        link = LINKS.read("click", found[1])
        assert link is not None
        assert (link.contact_id, link.run_id, link.step_id) == ("c1", "run_1", "hello")
        assert link.message_id == "msg_" + "k" * 32
        return f"[{link.target}]"

    return re.sub(r"https://mail\.example\.com/hooks/click/([^\"]+)", target, markup)


# --- clicks ---------------------------------------------------------------------------------------

PAGE = "https://example.com/a?b=1"


@pytest.mark.parametrize(
    "markup, left",
    [
        (f'<a href="{PAGE}">x</a>', f'<a href="[{PAGE}]">x</a>'),
        (f"<a class='b' href='{PAGE}' id=c>x</a>", f"<a class='b' href=\"[{PAGE}]\" id=c>x</a>"),
        (f"<a href={PAGE}>x</a>", f'<a href="[{PAGE}]">x</a>'),
        (f'<A\nHREF = "{PAGE}">x</A>', f'<A\nHREF = "[{PAGE}]">x</A>'),
        (f'<a\thref="  {PAGE} ">x</a>', f'<a\thref="[{PAGE}]">x</a>'),
        (f'<a title="a > b" href="{PAGE}">x</a>', f'<a title="a > b" href="[{PAGE}]">x</a>'),
        (
            f'<map><area shape="rect" href="{PAGE}"></map>',
            f'<map><area shape="rect" href="[{PAGE}]"></map>',
        ),
        (
            '<a href="https://e.com/?a=1&amp;b=&#x3D;">x</a>',
            '<a href="[https://e.com/?a=1&b==]">x</a>',
        ),
        ('<a href="HTTP://e.com/">x</a>', '<a href="[http://e.com/]">x</a>'),
        (f'<a/href="{PAGE}">x</a>', f'<a/href="[{PAGE}]">x</a>'),
        (f'<a class="b"href="{PAGE}">x</a>', f'<a class="b"href="[{PAGE}]">x</a>'),
        (f'<title-bar><a href="{PAGE}">x</a>', f'<title-bar><a href="[{PAGE}]">x</a>'),
        (f'<!--><a href="{PAGE}">x</a>', f'<!--><a href="[{PAGE}]">x</a>'),
        (
            f'<a href="{PAGE}" href="https://other.example/">x</a>',
            f'<a href="[{PAGE}]" href="https://other.example/">x</a>',
        ),
    ],
)
def test_links_on_to_the_web_are_signed(markup: str, left: str) -> None:
    assert told(html(markup)) == left


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="mailto:a@b.example">x</a>',
        '<a href="tel:+1555">x</a>',
        '<a href="#top">x</a>',
        '<a href="/relative">x</a>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="">x</a>',
        "<a href>x</a>",
        "<a name='https://example.com/'>x</a>",
        "<a href href='https://example.com/'>x</a>",
        "<a href='#top' href='https://example.com/'>x</a>",
        "<a =href='https://example.com/'>x</a>",
        "<a href='mailto:a@b.example?body=https://example.com/'>x</a>",
        "<a title=\"href='https://example.com/'\">x</a>",
        '<a data-href="https://example.com/">x</a>',
        '<a href="https://user@example.com/">x</a>',
        f'<a href="https://example.com/{"a" * 2_100}">x</a>',
        '<a href="https://exämple.com/">x</a>',
        '<a href="https://">x</a>',
        '<img src="https://example.com/a.png">',
        '<link href="https://example.com/a.css">',
        '<abbr href="https://example.com/">x</abbr>',
        '<!-- <a href="https://example.com/">x</a> -->',
        '<!--[if mso]><a href="https://example.com/">x</a><![endif]-->',
        '<style>a{b:"<a href=https://example.com/>"}</style>',
        "<script>'<a href=\"https://example.com/\">'</script>",
        "<title><a href='https://example.com/'></title>",
        "<textarea><a href='https://example.com/'></textarea>",
        "<xmp><a href='https://example.com/'></xmp>",
        '<!-- never closed <a href="https://example.com/">x</a>',
        '<a href="https://example.com/',
        '<a title=\'never closed href="https://example.com/">x</a>',
        "https://example.com/ as text",
        "",
    ],
)
def test_everything_else_leaves_as_it_is(markup: str) -> None:
    assert html(markup) == markup


def test_a_comment_that_browsers_see_through_hides_nothing() -> None:
    shown = '<!--[if !mso]><!--><a href="https://e.com/">x</a><!--<![endif]-->'
    assert told(html(shown)) == shown.replace("https://e.com/", "[https://e.com/]")


@given(st.text(alphabet="<>a \"'=/!-hrefHREFxtps:sript\n", max_size=80))
def test_no_markup_breaks_it_and_the_same_gives_the_same(markup: str) -> None:
    once = html(markup)
    assert once == html(markup)
    if "http" not in markup.lower():
        assert once == markup


@pytest.mark.parametrize(
    "piece", ['<a "', "<a '", "<a href=", "<!--", "<script>", "<a x=\"'", "<a href='h\"", "<a ="]
)
def test_hostile_markup_takes_no_time(piece: str) -> None:
    began = time.perf_counter()
    html(piece * (200_000 // len(piece)))
    assert time.perf_counter() - began < 2


# --- opens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before, after",
    [
        ("<html><body><p>Hello</p>", "</body></html>"),
        ("<p>Hello</p>", ""),
        ("<p>&lt;/body&gt;</p></body><p>late</p>", "</BODY >"),
    ],
)
def test_an_image_comes_last(before: str, after: str) -> None:
    left = html(before + after, Observed(opens=True))
    assert left.startswith(before)
    assert left.endswith(after)
    pixel = left.removeprefix(before).removesuffix(after)
    found = re.fullmatch(
        r'<img src="https://mail\.example\.com/hooks/open/(.+)\.gif" width="1" height="1" alt="">',
        pixel,
    )
    assert found is not None
    link = LINKS.read("open", found[1])
    assert link is not None
    assert (link.contact_id, link.run_id, link.step_id) == ("c1", "run_1", "hello")
    assert link.message_id == "msg_" + "k" * 32


def test_nothing_is_observed_unless_somebody_asks() -> None:
    markup = f'<a href="{PAGE}">x</a>'
    assert html(markup, NOTHING) == markup
    plain = Message("c1@example.com", "Hello", f"See {PAGE}", None)
    assert leaving(plain, LINKS, SENDING, BOTH, None) == plain
    mail = SendEmail(id="a", template_id="t", subject="s")
    asked = SendEmail(id="a", template_id="t", subject="s", tracking={"clicks": False})  # type: ignore[arg-type]
    assert Observed.of(mail, {}) == NOTHING
    sender = {"tracking": {"opens": False, "clicks": True}}
    assert Observed.of(mail, sender) == CLICKS
    assert Observed.of(asked, sender) == Observed(opens=True)
    off = SendEmail(id="a", template_id="t", subject="s", tracking=False)  # type: ignore[arg-type]
    assert Observed.of(off, {"tracking": {"opens": True, "clicks": True}}) == NOTHING
    assert Observed.of(Wait(id="w", duration={"days": 1}), {}) == NOTHING  # type: ignore[arg-type]


# --- unsubscribing --------------------------------------------------------------------------------


def text(said: str, general: str = GENERAL) -> str | None:
    message = Message("c1@example.com", "Hello", said, None)
    return leaving(message, LINKS, SENDING, NOTHING, general).text


def test_the_general_address_becomes_the_contact_s_own() -> None:
    said = f"Stop: {GENERAL}.\n({GENERAL})\n{GENERAL}"
    assert text(said) == said.replace(GENERAL, OWN)
    message = Message("c1@example.com", "Hello", said, None)
    assert leaving(message, LINKS, SENDING, NOTHING, None) == message


@pytest.mark.parametrize(
    "said",
    [
        "Enough? {}? Well.",
        "Enough of {}?",
        "<{}>",
        "*{}*, _{}_, ~{}~ or **{}**",
        "{}!\n{}, {}; {}: '{}'",
        "{}...",
        "配信停止は{}から。",
        "Abbestellen:\u00a0{}\u00a0",
        "“{}”",
        "stop={}",
    ],
)
def test_it_is_known_whatever_stands_around_it(said: str) -> None:
    assert text(said.replace("{}", GENERAL)) == said.replace("{}", OWN)
    assert html(said.replace("{}", GENERAL), NOTHING, GENERAL) == said.replace("{}", OWN)


@pytest.mark.parametrize(
    "general",
    [
        GENERAL,
        "https://example.com/u",
        "https://example.com/o'neill?a=`b`",
        "https://example.com/u?&",
    ],
)
def test_in_html_too_however_it_is_escaped(general: str) -> None:
    rendered = escape(general).replace("=", "&#x3D;").replace("`", "&#x60;")
    for form in (general, escape(general, quote=False), rendered):
        markup = f'<a href="{form}">{form}</a>'
        assert html(markup, NOTHING, general) == f'<a href="{OWN}">{OWN}</a>'
        # It is the contact's right, and nobody's click.
        assert html(markup, CLICKS, general) == f'<a href="{OWN}">{OWN}</a>'


@pytest.mark.parametrize("link", [LINKS.unsubscribe("c1"), LINKS.general_unsubscribe])
def test_no_link_to_unsubscribe_is_a_click(link: str) -> None:
    """As one that came with the contact's attributes."""
    markup = f'<a href="{link}">Stop</a>'
    assert html(markup, CLICKS) == markup
    assert html(markup, CLICKS, GENERAL) == markup
    other = f"{LINKS.general_unsubscribe}d"
    assert told(html(f'<a href="{other}">x</a>')) == f'<a href="[{other}]">x</a>'


@pytest.mark.parametrize(
    "markup",
    [
        "&lt;{}&gt;",
        "&quot;{}&quot;",
        "{}&nbsp;",
        "{}&#160;or",
        "{}&#xa0;or",
        "{}&mdash;now",
        "{}<br>",
    ],
)
def test_what_is_escaped_behind_it_is_no_part_of_it(markup: str) -> None:
    assert html(markup.format(GENERAL), NOTHING, GENERAL) == markup.format(OWN)


@pytest.mark.parametrize(
    "more",
    [
        "nder", "/", "/policy", "?x=1", "?%20", "?-", "#a", "%20", ".html", "-2", "_b", "~c", "*d",
        "--e", "&x=1", "=", "@b", "$", "+1", ",1", ";v", ":8", "!a",
    ],
)  # fmt: skip
def test_an_address_that_goes_on_is_another_one(more: str) -> None:
    said = f"https://example.com/u{more}"
    assert text(said, "https://example.com/u") == said
    for markup in (said, escape(said), escape(said).replace("=", "&#x3D;")):
        assert html(markup, NOTHING, "https://example.com/u") == markup


@pytest.mark.parametrize("before", ["x", "9", "/", "?", "&", "%", "view-source-"])
def test_an_address_that_began_before_is_another_one(before: str) -> None:
    said = f"https://other.example/{before}https://example.com/u"
    assert text(said, "https://example.com/u") == said
