"""Links to views, and the walk through the app, as a person uses them."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

LORA = "LoRA on resnet20, corrupted photographs (bundled)"


@pytest.fixture
def visit_link(app, page):
    """visit_link("tab=look&blur=3") opens a link in the page of a visitor."""

    def show(query):
        page.goto(f"{app}/?__theme=light&{query}")
        return page

    return show


def test_a_link_restores_what_is_shown(page, visit_link):
    expect(page.locator(".look-table .moved").first).to_be_visible()
    page.locator(".pictures button img").nth(1).click()
    expect(page.locator(".look figcaption")).to_contain_text("coffee.jpg")
    field = page.get_by_label("number input for Noise, σ")
    field.fill("0.2")
    field.press("Enter")
    page.get_by_role("button", name="Copy link", exact=True).click()
    expect(page.get_by_text("is now a link to this view")).to_be_visible()
    query = urlsplit(page.url).query
    held = parse_qs(query)
    assert held.pop("layer") and held == {"tab": ["look"], "image": ["1"], "noise": ["0.2"]}
    visit_link(query)
    expect(page.locator(".look figcaption")).to_contain_text("2. coffee.jpg")
    expect(page.get_by_label("number input for Noise, σ")).to_have_value("0.2")


def test_a_link_opens_another_tab_with_its_fields(visit_link):
    page = visit_link("tab=look&adapter=resnet20/lora/cifar10-corruptions&rotation=90")
    expect(page.get_by_label("Adapter", exact=True)).to_have_value(LORA)
    expect(page.get_by_label("number input for Rotation, °")).to_have_value("90")
    page = visit_link("tab=about")
    expect(page.get_by_role("tab", name="About")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tab=look&adapter=run:20990101-000000-abcdef", "There is no adapter 'run:20990101-000000-abcdef' here."),
        ("tab=nowhere", "There is no tab 'nowhere'."),
        ("tab=look&blur=1000", "blur cannot be 1000."),
        ("tab=look&blur=nan", "blur cannot be nan."),
        ("tab=look&image=<img src=x onerror=alert(1)>", "'<img src=x onerror=alert(1)>' is not a whole number."),
    ],
)
def test_a_link_that_names_what_is_not_there_says_so_and_shows_the_rest(visit_link, query, said):
    page = visit_link(query)
    expect(page.locator(".message.status", has_text=said)).to_be_visible()
    expect(page.locator(".look-table tbody tr").first).to_be_visible()


def test_the_first_visit_walks_through_the_app_and_the_second_does_not(page):
    line = page.locator(".tour")
    for number in range(1, 6):
        expect(line).to_contain_text(f"{number} of 5.")
        expect(page.locator(".toured")).to_have_count(0 if number == 1 else 1)
        line.get_by_role("button", name="Next" if number < 5 else "Done").click()
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    expect(line).to_be_hidden()
    page.reload()
    expect(page.locator(".look-table .moved").first).to_be_visible()
    expect(line).to_be_hidden()
    page.get_by_role("button", name="Tour", exact=True).click()
    expect(line).to_contain_text(re.compile("1 of 5"))
    line.get_by_role("button", name="Skip").click()
    expect(line).to_be_hidden()
