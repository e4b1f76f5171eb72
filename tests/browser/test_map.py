"""Embeddings, as a person uses it: hover, click, lasso, two adapters, one morphed into the other, files."""

import re
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import expect

ADAPTER, SECOND, IMAGE = "Adapter", "Second adapter, side by side", "Image and its ten nearest neighbours"
SLOW = 300_000  # milliseconds for aligned UMAP, of which some is compiled at every call
BEFORE = re.compile(r"UMAP of features, adapted .* \d+ images\. Computed before")


def status(page, words):
    return page.locator("p.message.status", has_text=words)


def plot(page, place=0):
    """A scatter that is drawn."""
    area = page.locator(".plot-area:visible").nth(place)
    expect(area.locator(".main-svg").first).to_be_visible()
    return area


def drawn(area):
    """Rows that are images → [x, y], and rows of the two kinds of rings."""
    return area.evaluate("""area => ({
        places: Object.fromEntries(area.data.filter(trace => trace.customdata).flatMap(
            trace => Array.from(trace.customdata, (row, i) => [row, [trace.x[i], trace.y[i]]]))),
        rings: area.data.filter(trace => !trace.customdata).map(trace => trace.x.length),
        names: area.data.filter(trace => trace.customdata).map(trace => trace.name),
    })""")


def pixel(area, row):
    """Where a row's point is on the screen."""
    area.scroll_into_view_if_needed()
    inside = area.evaluate(
        """(area, row) => {
            const {xaxis, yaxis} = area._fullLayout;
            const trace = area.data.find(trace => trace.customdata && trace.customdata.includes(row));
            const i = trace.customdata.indexOf(row);
            return [xaxis._offset + xaxis.l2p(trace.x[i]), yaxis._offset + yaxis.l2p(trace.y[i])];
        }""",
        row,
    )
    box = area.bounding_box()
    return box["x"] + inside[0], box["y"] + inside[1]


def choose(page, label, option):
    """Choose from a menu by typing, with the keyboard alone."""
    menu = page.get_by_label(label, exact=True).locator("visible=true")
    menu.focus()
    menu.fill(option)
    expect(page.get_by_role("option", name=option).first).to_be_visible()
    menu.press("ArrowDown")
    menu.press("Enter")


def opened(page, open_tab):
    open_tab(page, "Embeddings")
    expect(status(page, BEFORE)).to_be_visible()
    return plot(page)


def test_the_first_screen_is_full_and_warns_of_distances(page, open_tab):
    area = opened(page, open_tab)
    assert len(drawn(area)["places"]) > 100
    expect(page.get_by_text("Distances on a UMAP are not metric")).to_be_visible()
    expect(page.get_by_text("Waits for a second adapter.")).to_be_visible()
    expect(page.get_by_label("Align the two, with a slider from one to the other")).to_be_disabled()


def test_hover_shows_an_image_and_a_click_its_neighbours(page, open_tab):
    area = opened(page, open_tab)
    row = int(area.evaluate("area => area.data[0].customdata[0]"))
    page.mouse.move(*pixel(area, row))
    card = page.locator(".plot-card:visible")
    expect(card.locator(".plot-name")).to_be_visible()
    expect(card.locator(".plot-image")).to_have_count(2)  # the image, and its adapter
    name = card.locator(".plot-name").inner_text()
    page.mouse.click(*pixel(area, row))
    tiles = page.locator(".tiles:visible figure")
    expect(tiles).to_have_count(11)
    expect(page.get_by_label(IMAGE)).to_have_value(re.compile(rf": {re.escape(name)}$"))
    expect(tiles.first).to_contain_text("this image")
    expect(tiles.nth(10)).to_contain_text("10: cosine")
    assert drawn(area)["rings"] == [10, 1]


def test_a_menu_stands_in_for_the_click(page, open_tab):
    area = opened(page, open_tab)
    choose(page, IMAGE, "12: ")
    expect(page.locator(".tiles:visible figure")).to_have_count(11)
    page.get_by_label("right or wrong").click()
    expect(area.locator(".legendtext", has_text="right").first).to_be_visible()
    shown = drawn(area)
    assert set(shown["names"]) == {"right", "wrong"} and shown["rings"] == [10, 1]


def test_a_lasso_counts_classes_and_judges_them(page, open_tab):
    area = opened(page, open_tab)
    frame = area.locator(".nsewdrag").first.bounding_box()
    left, top = frame["x"] + 4, frame["y"] + 4
    right, bottom = left + frame["width"] - 8, top + frame["height"] - 8
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=6)
    page.mouse.up()
    count = len(drawn(area)["places"])
    expect(status(page, re.compile(rf"{count} images, \d+\.\d % classified correctly"))).to_be_visible()
    expect(page.get_by_text("Classes of the selection")).to_be_visible()


def test_pca_needs_no_neighbours_and_says_so(page, open_tab):
    area = opened(page, open_tab)
    before = drawn(area)["places"]
    page.get_by_label("PCA", exact=True).click()
    expect(status(page, "PCA of features, adapted")).to_be_visible()
    expect(page.get_by_text("PCA has no neighbours to set.")).to_be_visible()
    expect(page.get_by_label("number input for Neighbours")).to_be_disabled()
    expect(area.locator(".xtitle")).to_have_text("PCA 1")
    assert drawn(area)["places"] != before


def test_what_a_method_does_not_generate_cannot_be_chosen_and_says_so(page, open_tab):
    opened(page, open_tab)
    page.get_by_label("generated cores").click()
    expect(status(page, "UMAP of generated cores")).to_be_visible()
    choose(page, ADAPTER, "Multi-LoRA on resnet20, digits (bundled)")
    expect(plot(page).locator(".gtitle")).to_have_text(re.compile("^Multi-LoRA on resnet20"))
    expect(page.get_by_text("No generated cores to choose: Multi-LoRA on resnet20 has none.")).to_be_visible()
    expect(page.get_by_label("generated cores")).to_have_count(0)
    expect(page.get_by_label("features, adapted")).to_be_checked()
    expect(status(page, "UMAP of features, adapted")).to_be_visible()
    choose(page, ADAPTER, "Meta-LoRA TR on resnet20, digits (bundled)")
    expect(page.get_by_label("generated cores")).to_be_visible()


def side_by_side(page, open_tab):
    first = opened(page, open_tab)
    choose(page, SECOND, "LoRA on resnet20, digits (bundled)")
    expect(page.locator(".plot-area:visible")).to_have_count(2)
    return first, plot(page, 1)


def test_two_adapters_are_shown_side_by_side_with_the_same_image_marked(page, open_tab):
    first, second = side_by_side(page, open_tab)
    assert drawn(first)["places"].keys() == drawn(second)["places"].keys()
    page.mouse.click(*pixel(second, 0))
    expect(page.locator(".tiles:visible")).to_have_count(2)
    assert drawn(first)["rings"] == drawn(second)["rings"] == [10, 1]


@pytest.mark.slow  # aligned UMAP is compiled at every call; test_plot.py moves the slider, tests/views align adapters
def test_one_adapter_morphs_into_the_other(page, open_tab):
    first, _ = side_by_side(page, open_tab)
    page.get_by_label("Align the two, with a slider from one to the other").check()
    expect(status(page, "Aligned UMAP of features, adapted")).to_be_visible(timeout=SLOW)
    expect(page.locator(".plot-area:visible")).to_have_count(1)
    slider = page.get_by_label("From the first adapter to the second")
    expect(slider).to_be_visible()
    start, x = drawn(first)["places"], first.evaluate("area => area.data[0].x[0]")
    slider.focus()
    slider.press("End")
    page.wait_for_function("([area, x]) => area.data[0].x[0] !== x", arg=[first.element_handle(), x])
    end = drawn(first)["places"]
    assert end.keys() == start.keys() and end != start


def test_an_embedding_is_exported_as_a_page_and_as_a_table(page, open_tab):
    count = len(drawn(opened(page, open_tab))["places"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    table = pd.read_csv(download.value.path(), dtype=str)
    assert len(table) == count and {"adapter", "name", "label", "task", "x", "y", "predicted"} <= set(table)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export HTML").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text and not re.search(r"<script[^>]+src=", text)


def test_a_narrow_dark_page_is_whole_and_legible(visit, open_tab):
    page = visit(width=400, theme="dark")
    area = opened(page, open_tab)
    page.get_by_label("task", exact=True).click()  # long names in the legend
    expect(area.locator(".legendtext", has_text="rotate").first).to_be_visible()
    page.wait_for_function("area => area._fullLayout.xaxis._length > 200", arg=area.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    ink = area.locator(".xtitle").evaluate("title => getComputedStyle(title).fill")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180
