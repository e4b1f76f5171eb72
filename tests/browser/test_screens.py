"""Every tab in both modes: a screenshot for a person to look at, and what axe finds; and at 400 pixels."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

# What is on a tab once it is full.
FULL = {
    "Look": ".look-table tbody tr",
    "Train": ".diagram svg",
    "Map": ".plot-area .main-svg",
    "Compare": "table >> text=metalora-tr",
    "About": "text=How to cite >> visible=true",
}
GRAVE = ("serious", "critical")
NAMED = "search-input"  # Gradio's field above a table, which has a title where axe wants a label


def fill(page, open_tab, title):
    open_tab(page, title)
    expect(page.locator(FULL[title]).locator("visible=true").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_tabs_look_right_and_axe_finds_nothing_grave(visit, open_tab, screenshots, theme):
    page, found = visit(theme=theme), []
    # A button that becomes active fades in, and half way its contrast is low.
    page.add_style_tag(content="* { transition: none !important; }")
    for title in FULL:
        fill(page, open_tab, title)
        page.screenshot(path=screenshots / f"{title.lower()}-{theme}.png", full_page=True)
        violations = Axe().run(page).response["violations"]
        found += [
            f"{title}: {violation['id']}: {node['html'][:150]}"
            for violation in violations
            if violation["impact"] in GRAVE
            for node in violation["nodes"][:3]
            if violation["id"] != "label-title-only" or NAMED not in node["html"]
        ]
    assert not found, "\n".join(found)


# Gradio's state is copied value by value; several 10,000 copies a second kept a core busy on a page where nothing was.
COUNT = "() => { window.copies = 0; window.requests = 0; const {structuredClone: copy, fetch: ask} = window;" + (
    "window.structuredClone = (...a) => { window.copies += 1; return copy(...a); };"
    "window.fetch = (...a) => { window.requests += 1; return ask(...a); }; }"
)


def test_a_page_on_which_nothing_happens_rests(page, open_tab):
    for title in FULL:
        fill(page, open_tab, title)
    page.wait_for_timeout(5000)
    page.evaluate(COUNT)
    page.wait_for_timeout(6000)
    assert page.evaluate("[window.copies < 1000, window.requests]") == [True, 0], page.evaluate("window.copies")


def test_nothing_is_wider_than_a_narrow_screen(visit, screenshots):
    page = visit(width=400)
    expect(page.locator(FULL["Look"]).first).to_be_visible()
    expect(page.locator(".sidebar")).not_to_have_class(re.compile(r"\bopen\b"))
    expect(page.get_by_role("tab")).to_contain_text([*FULL])  # none in a menu
    page.screenshot(path=screenshots / "look-400.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
