"""Map, as a person uses it: morph, hover, click, lasso, search, two linked maps, own images, files."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser.test_train import message, short_run
from PIL import Image
from playwright.sync_api import expect

ADAPTER, VERSUS, TWO, IMAGE = "Adapter", "Versus", "The two", "Image and its ten nearest neighbours"
SLOW = 300_000  # milliseconds for aligned UMAP, of which some is compiled at every call
BEFORE = re.compile(r"\d+ images; accuracy .* Original resnet20 .*UMAP of features, adapted .* computed before")
EXAMPLES = sorted((Path(__file__).parents[2] / "assets" / "examples").glob("*.png"))


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


@pytest.fixture
def page(visit):
    """A page that a link has opened on the map of digits, whose images are here."""
    return visit(query="tab=map&adapter=resnet20/metalora-tr")


def opened(page, first="^361 images"):
    """The map at the end of its morph."""
    expect(status(page, re.compile(first))).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.plot-morph input')].some((one) => one.value === '100')"
    )
    return plot(page)


def overlay(page, place=0):
    """What the canvas above a visible plot shows."""
    return page.locator(".plot-over:visible").nth(place).evaluate("canvas => ({...canvas.dataset})")


def pick(page, label, option):
    """Choose from a menu with the mouse."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).first.click()


def test_the_first_sight_is_the_original_network_turning_into_the_adapter(visit, open_tab):
    page = visit()
    open_tab(page, "Map")
    area = opened(page, BEFORE)
    ends = page.locator(".plot-morph:visible")
    expect(ends.locator(".from")).to_have_text(re.compile(r"^Original resnet20, \d+\.\d %$"))
    expect(ends.locator(".to")).to_have_text(re.compile(r"^Meta-LoRA TR on resnet20, \d+\.\d %$"))
    shown = overlay(page)
    assert len(drawn(area)["places"]) == 640 and shown["pictures"] == "0"  # 400 or more: points until one zooms
    assert len(re.findall('"', shown["labels"])) > 10  # clusters have names
    expect(page.get_by_text("Distances on a UMAP are not metric")).to_be_visible()
    page.locator(".tour").get_by_role("button", name="Skip").click()
    expect(page.locator(".tour")).to_be_hidden()
    box = area.bounding_box()
    assert box["height"] >= 500 and box["y"] < 330  # large, and high up
    expect(page.get_by_label("number input for Neighbours")).to_be_hidden()
    slider = page.get_by_label("From the first adapter to the second").locator("visible=true")
    slider.focus()
    end, first = drawn(area)["places"], area.evaluate("area => area.data[0].x[0]")
    slider.press("Home")
    page.wait_for_function("([area, x]) => area.data[0].x[0] !== x", arg=[area.element_handle(), first])
    assert drawn(area)["places"] != end


def test_hover_shows_an_image_and_a_click_its_neighbours(page):
    area = opened(page)
    row = int(area.evaluate("area => area.data[0].customdata[0]"))
    page.mouse.move(*pixel(area, row))
    card = page.locator(".plot-card:visible")
    expect(card.locator(".plot-name")).to_be_visible()
    expect(card.locator(".plot-image")).to_have_count(2)  # the image, and its adapter
    name = card.locator(".plot-name").inner_text()
    page.mouse.click(*pixel(area, row))
    expect(page.locator(".tiles:visible")).to_have_count(2)  # by the original network, and by the adapter
    tiles = page.locator(".tiles:visible").last.locator("figure")
    expect(tiles).to_have_count(11)
    expect(page.get_by_label(IMAGE)).to_have_value(re.compile(rf": {re.escape(name)}$"))
    expect(tiles.first).to_contain_text("this image")
    expect(tiles.nth(10)).to_contain_text("10: cosine")
    assert drawn(area)["rings"] == [10, 1]


@pytest.mark.slow
def test_a_menu_stands_in_for_the_click(page):
    area = opened(page)
    choose(page, IMAGE, "12: ")
    expect(page.locator(".tiles:visible figure")).to_have_count(22)
    pick(page, "Colour", "right or wrong")
    expect(area.locator(".legendtext", has_text="right").first).to_be_visible()
    shown = drawn(area)
    assert set(shown["names"]) == {"right", "wrong"} and shown["rings"] == [10, 1]


def lasso(page, area):
    """Select all points."""
    frame = area.locator(".nsewdrag").first.bounding_box()
    left, top = frame["x"] + 4, frame["y"] + 4
    right, bottom = left + frame["width"] - 8, top + frame["height"] - 8
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=6)
    page.mouse.up()


@pytest.mark.slow
def test_a_lasso_counts_classes_and_judges_them(page):
    area = opened(page)
    lasso(page, area)
    count = len(drawn(area)["places"])
    expect(status(page, re.compile(rf"{count} images, \d+\.\d % classified correctly"))).to_be_visible()
    expect(page.get_by_text("Classes of the selection")).to_be_visible()


@pytest.mark.slow
def test_fewer_than_400_images_are_their_own_points(page):
    area = opened(page)
    assert int(overlay(page)["pictures"]) == len(drawn(area)["places"]) == 361
    page.get_by_label("images as points").locator("visible=true").uncheck()
    page.wait_for_function("area => area.data[0].marker.size > 1", arg=area.element_handle())
    assert overlay(page)["pictures"] == "0"


@pytest.mark.slow
def test_a_search_highlights_and_counts(page):
    area = opened(page)
    search = page.locator(".plot-search:visible")
    search.fill("rotate-90")
    count = page.locator(".plot-count:visible")
    expect(count).to_have_text(re.compile(r"^\d+ of \d+$"))
    found, of = map(int, count.inner_text().split(" of "))
    assert 0 < found < of == len(drawn(area)["places"])
    page.get_by_label("images as points").locator("visible=true").uncheck()
    faint = "area => area.data.flatMap((trace) => trace.marker.opacity || []).filter((one) => one === 1).length"
    page.wait_for_function(f"([area, found]) => ({faint})(area) === found", arg=[area.element_handle(), found])
    search.fill("no such thing")
    expect(count).to_have_text(f"0 of {of}")


@pytest.mark.slow
def test_a_click_on_the_legend_isolates_a_class(page):
    area = opened(page)
    entry = area.locator(".legendtoggle").nth(2)
    entry.click()
    shown = "area => area._fullData.filter((trace) => trace.customdata && trace.visible === true).length"
    page.wait_for_function(f"area => ({shown})(area) === 1", arg=area.element_handle())
    page.wait_for_function(
        "area => Number(area.parentElement.querySelector('.plot-over').dataset.pictures) < 100",
        arg=area.element_handle(),
    )


@pytest.mark.slow
def test_pca_says_how_much_its_axes_explain(page):
    area = opened(page)
    before = drawn(area)["places"]
    pick(page, "Projection", "PCA")
    expect(status(page, "PCA of features, adapted")).to_be_visible()
    expect(area.locator(".xtitle")).to_have_text(re.compile(r"PCA 1: \d+% of variance"))
    assert drawn(area)["places"] != before
    page.get_by_role("button", name="UMAP settings").click()
    expect(page.get_by_label("number input for Neighbours")).to_be_disabled()


@pytest.mark.slow
def test_what_a_method_does_not_generate_is_said(page):
    opened(page)
    pick(page, "Space", "generated cores")
    expect(status(page, "UMAP of generated cores")).to_be_visible()
    choose(page, ADAPTER, "Multi-LoRA on resnet20, digits (bundled)")
    expect(page.locator(".message.error", has_text="Multi-LoRA on resnet20 generates no cores")).to_be_visible()
    expect(status(page, "UMAP of features, adapted")).to_be_visible()


def side_by_side(page):
    first = opened(page)
    pick(page, TWO, "side by side")
    expect(page.locator(".plot-area:visible")).to_have_count(2)
    return first, plot(page, 1)


def test_two_maps_are_linked(page):
    first, second = side_by_side(page)
    assert drawn(first)["places"].keys() == drawn(second)["places"].keys()
    row = int(second.evaluate("area => area.data[0].customdata[0]"))
    page.mouse.move(*pixel(second, row))
    hovered = "() => [...document.querySelectorAll('.plot-over')].some((one) => one.dataset.echo)"
    page.wait_for_function(hovered)
    page.mouse.click(*pixel(second, row))
    expect(page.locator(".tiles:visible")).to_have_count(2)
    assert drawn(first)["rings"] == drawn(second)["rings"] == [10, 1]
    lasso(page, first)
    selected = "area => area.data.filter((trace) => trace.selectedpoints && trace.selectedpoints.length).length > 1"
    page.wait_for_function(selected, arg=second.element_handle())
    expect(
        status(page, re.compile(r"Original resnet20: \d+ images.*Meta-LoRA TR on resnet20: \d+ images"))
    ).to_be_visible()


def test_ones_own_images_are_on_the_map_and_a_broken_one_is_named(page, tmp_path):
    opened(page)
    photo, broken = tmp_path / "photo.jpg", tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(photo)
    broken.write_text("words")
    page.locator("#map-files input[type=file]").set_input_files([EXAMPLES[0], photo, broken])
    page.wait_for_function(
        "() => [...document.querySelectorAll('.plot-over')].some((one) => one.dataset.guests === '2')"
    )
    expect(page.locator(".message.error", has_text="broken.png cannot be used")).to_be_visible()
    expect(page.get_by_text("A UMAP takes no further points")).to_be_visible()
    expect(page.locator(".tiles:visible figure", has_text="photo.jpg")).to_be_visible()


def test_a_finished_run_is_the_adapter_that_is_shown(visit, open_tab):
    page = visit()
    short_run(page, open_tab)
    page.get_by_role("button", name="Start").click()
    expect(message(page, "Finished: step 6 of 6")).to_be_visible()
    open_tab(page, "Map")
    expect(page.get_by_label(ADAPTER, exact=True).locator("visible=true")).to_have_value(
        re.compile("6 steps, digits, resnet20")
    )
    expect(status(page, re.compile("images; accuracy .*UMAP of features, adapted"))).to_be_visible()
    expect(page.locator("p.message.status", has_text="computed before")).to_have_count(0, timeout=SLOW)


@pytest.mark.slow  # aligned UMAP is compiled at every call; test_plot.py moves the slider, tests/views align adapters
def test_aligned_umap_says_how_long_it_is_at_work(page):
    opened(page)
    page.get_by_role("button", name="UMAP settings").click()
    page.get_by_label("Aligned UMAP").check()
    waiting = page.locator(".plot-wait:visible")
    expect(waiting).to_contain_text("Aligning two UMAPs")
    expect(waiting.locator(".plot-seconds")).to_have_text(re.compile(r"^\d+ s$"))
    expect(status(page, "Aligned UMAP of features, adapted")).to_be_visible(timeout=SLOW)
    expect(waiting).to_have_count(0)


@pytest.mark.slow
def test_an_embedding_is_exported_as_a_page_and_as_a_table(page):
    count = 2 * len(drawn(opened(page))["places"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    table = pd.read_csv(download.value.path(), dtype=str)
    assert len(table) == count and {"adapter", "name", "label", "task", "x", "y", "predicted"} <= set(table)
    assert set(table["space"]) == {"original", "adapted"}
    with page.expect_download() as download:
        page.get_by_role("button", name="Export HTML").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text and not re.search(r"<script[^>]+src=", text)


@pytest.mark.slow
def test_a_narrow_dark_page_is_whole_and_legible(visit):
    page = visit(width=400, theme="dark", query="tab=map&adapter=resnet20/metalora-tr")
    area = opened(page)
    pick(page, "Colour", "task")  # long names in the legend
    expect(area.locator(".legendtext", has_text="rotate").first).to_be_visible()
    page.wait_for_function("area => area._fullLayout.xaxis._length > 200", arg=area.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    ink = area.locator(".xtitle").evaluate("title => getComputedStyle(title).fill")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180
