"""A running app and a real Chromium; a page whose console must stay clean and whose requests stay here."""

import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("METALORA_SCREENSHOTS", ROOT / "build" / "screenshots"))
PATIENCE = int(os.environ.get("METALORA_PATIENCE", "120"))  # seconds, for machines that have other things to do
HARMLESS = re.compile(r"GL Driver|WebGL|^Method not implemented\.$")  # of graphics drivers; of Gradio after an upload
# Of pages that are left while they wait; Gradio ends the stream of a session that has gone with 404.
ABORTED = re.compile(
    r"AbortError: signal is aborted|Connection errored out|Unexpected error 404: Not Found|ERR_INCOMPLETE_CHUNKED"
    r"|TypeError: network error"
)


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "There is no Chromium: install it (Debian: apt-get install chromium) or name it in CHROMIUM."
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(app, browser: Browser):
    """visit(width=1280, theme="light", query="") opens the app as a new visitor; consoles are checked at the end."""
    contexts, complaints, aborted = [], [], []

    def new(width: int = 1280, theme: str = "light", query: str = "") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 1000}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        arrivals: list[str] = []  # of the page itself; over one where a test reloads it
        page.on("framenavigated", lambda frame: arrivals.append(frame.url) if frame == page.main_frame else None)
        page.on("console", lambda message: note(message.type, message.text, arrivals))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: leave(request.url))
        page.goto(f"{app}/?__theme={theme}&{query}")
        settle(page)
        return page

    def note(kind: str, text: str, arrivals: list[str]) -> None:
        if kind not in ("error", "warning") or HARMLESS.search(text):
            return
        if ABORTED.search(text):
            aborted.append((arrivals, f"{kind}: {text}"))
        else:
            complaints.append(f"{kind}: {text}")

    def leave(url: str) -> None:
        if not url.startswith((app, "data:", "blob:")):
            complaints.append(f"request to {url}")

    yield new
    for context in contexts:
        context.close()
    assert not [*complaints, *(text for arrivals, text in aborted if len(arrivals) < 2)]


@pytest.fixture
def page(visit):
    """One visitor's page at 1280 pixels, in light mode."""
    return visit()


def settle(page: Page) -> None:
    """Wait until the page has filled its fields: what is typed before that may be overwritten."""
    expect(page.locator("#settled input")).to_have_value("1")


@pytest.fixture(scope="session")
def open_tab():
    """open_tab(page, "Inspect") shows a tab of a page that has filled its fields."""

    def show(page: Page, title: str) -> None:
        settle(page)
        page.get_by_role("tab", name=title, exact=True).click()
        expect(page.get_by_role("tab", name=title, exact=True)).to_have_attribute("aria-selected", "true")

    return show


@pytest.fixture(scope="session")
def screenshots():
    """Folder for screenshots that a person looks at after the tests."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS
