"""A browser on the web application, and everything it said while it was used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

_CSP = """document.addEventListener("securitypolicyviolation",
  (event) => console.error("policy", event.violatedDirective, event.blockedURI, event.sample));"""


def chromium() -> str:
    """Where the browser is; scripts/test installs it."""
    found = os.environ.get("DEE_CHROMIUM") or shutil.which("chromium")
    assert found, "no chromium: run this through scripts/test, or set DEE_CHROMIUM"
    return found


@dataclass
class Heard:
    """What the browser complained about, where it wanted to go, and the buttons it has shown."""

    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    buttons: set[str] = field(default_factory=set)


@dataclass
class Visitor:
    """Somebody with a browser."""

    base: str
    page: Page
    heard: Heard
    axe: Axe

    def go(self, path: str) -> None:
        """Open a page, wait for what it asks for by itself, and look at its buttons."""
        self.page.goto(self.base + path, wait_until="load")
        self.page.locator("#verified[hx-get]").wait_for(state="detached")
        self.look()

    def look(self) -> None:
        """Unfold everything, and take note of every button there is."""
        self.page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
        )
        texts = self.page.evaluate(
            "[...document.querySelectorAll('button')].map((b) => b.textContent.trim())"
        )
        self.heard.buttons.update(
            " ".join(w for w in t.split() if not w.replace(",", "").isdecimal()) for t in texts
        )

    def press(self, name: str, within: str = "main") -> None:
        """Press the button of that name."""
        self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()
        self.page.wait_for_load_state("load")

    def faults(self, *rules: str) -> list[str]:
        """What axe finds that is serious or worse, by these rules or by all."""
        options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
        found = self.axe.run(self.page, options=options).response["violations"]
        return [
            f"{self.page.url} {each['id']} ({each['impact']}): {node['html'][:160]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"][:3]
        ]

    def in_the_dark(self) -> list[str]:
        """What cannot be read under a dark scheme."""
        self.page.emulate_media(color_scheme="dark")
        found = self.faults("color-contrast")
        self.page.emulate_media(color_scheme="light")
        return found

    def fits(self) -> bool:
        """Whether the page is no wider than the window."""
        wide: bool = self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        return wide


@contextmanager
def visiting(base: str, heard: Heard, width: int, height: int) -> Iterator[Visitor]:
    """A visitor with a window of this size."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="light",
            reduced_motion="reduce",
        )
        context.add_init_script(_CSP)
        yield Visitor(base, _listened(context, base, heard), heard, Axe())
        context.close()
        browser.close()


def _listened(context: BrowserContext, base: str, heard: Heard) -> Page:
    page = context.new_page()

    def told(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            heard.complaints.append(f"{page.url}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith((f"{base}/", "data:", "about:")):
            heard.elsewhere.append(request.url)

    page.on("console", told)
    page.on("pageerror", lambda error: heard.complaints.append(f"{page.url}: {error}"))
    page.on("request", asked)
    return page
