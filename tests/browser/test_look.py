"""Look, as a person uses it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

DIGITS = sorted((Path(__file__).parents[2] / "assets" / "examples").glob("*.png"))
PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "rocket.jpg", "flower.jpg", "china.jpg")
FOLDED = ("All images side by side", "One layer closely", "Swap and blend cores", "Download")
ADAPTERS = ("original network", "LoRA, ", "its own core", "another image's core", "one core for all")


@pytest.fixture
def look(page):
    """The first screen, complete."""
    expect(page.locator(".look-table tbody tr")).to_have_count(len(ADAPTERS))
    expect(page.get_by_text("5 images, a core for each")).to_be_visible()
    return page


@pytest.fixture
def digits(look):
    """The first screen with an adapter of digits."""
    choose(look, "Adapter", "Meta-LoRA TR on resnet20, digits (bundled)")
    expect(look.get_by_text("4 images, a core for each")).to_be_visible()
    return look


@pytest.fixture
def inspect(look):
    """The same with everything unfolded."""
    for title in FOLDED:
        look.locator("button.label-wrap", has_text=title).click()
    return look


def turn(page, knob, value):
    field = page.get_by_label(f"number input for {knob}")
    field.fill(value)
    field.press("Enter")


def test_the_first_screen_shows_an_image_its_adapter_and_what_it_does(look):
    for label in ("The adapter of this image", "Its core among those of the gallery"):
        expect(look.locator(f'.plot-area[aria-label="{label}"] .main-svg').first).to_be_visible()
    expect(look.locator(".look figcaption")).to_contain_text(PHOTOGRAPHS[0])
    for row, name in zip(look.locator(".look-table tbody tr").all(), ADAPTERS, strict=True):
        expect(row).to_contain_text(name)
        expect(row.locator(".near > *")).to_have_count(5)
        expect(row.locator(".moved")).to_have_count(1)
    expect(look.get_by_text("Trained on: noise, blur, contrast, pixelation.")).to_be_visible()
    expect(look.get_by_text("Moved least by")).to_be_visible()
    lowest = look.locator(".look-table").bounding_box()
    assert lowest["y"] + lowest["height"] < 800  # without scrolling


def test_a_knob_shifts_the_image_and_says_how_far_each_adapter_moves(digits):
    look = digits
    look.get_by_role("button", name="Reset", exact=True).click()
    image, said = look.locator(".look img"), look.locator(".message.status", has_text="Moved least by")
    expect(look.locator(".look-table .moved")).to_have_count(0)
    before = image.get_attribute("src")
    turn(look, "Rotation, °", "90")
    expect(said).to_be_visible()
    expect(look.locator(".look-table .moved")).to_have_count(len(ADAPTERS))
    assert image.get_attribute("src") != before
    expect(look.locator(".look .read")).to_contain_text("rotate-90")
    look.get_by_role("button", name="Reset", exact=True).click()
    expect(said).to_have_count(0)
    expect(image).to_have_attribute("src", before)


def test_another_image_is_chosen_and_another_core_is_tried(look):
    table = look.locator(".look-table")
    before = table.inner_html()
    look.locator(".pictures button img").nth(2).click()
    expect(look.locator(".look figcaption")).to_contain_text(PHOTOGRAPHS[2])
    look.wait_for_function("before => document.querySelector('.look-table').innerHTML !== before", arg=before)
    turn(look, "Noise, σ", "0.2")
    expect(table.locator(".moved")).to_have_count(len(ADAPTERS))
    before = table.inner_html()
    choose(look, "The other image, whose core is tried", re.compile("^4"))
    look.wait_for_function("before => document.querySelector('.look-table').innerHTML !== before", arg=before)


def test_all_knobs_are_turned_through_their_range(look):
    look.get_by_role("button", name="Turn all", exact=True).click()
    curves = look.locator('.plot-area[aria-label*="as each knob turns"]')
    expect(curves.locator(".main-svg").first).to_be_visible()
    assert curves.evaluate("area => new Set(area._fullData.map((trace) => trace.name)).size") == len(ADAPTERS) + 1
    for title in ("Rotation, °", "Pixelation, ×"):
        expect(curves.get_by_text(title)).to_be_visible()


def upload(page, *files):
    page.locator("input[type=file][multiple]").set_input_files(list(files))


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_what_is_folded_away_is_full(digits, inspect):
    for label in ("Fingerprints", "Strength of each", "Core of the chosen", "Cosine similarity", "codes"):
        expect(inspect.locator(f'.plot-area[aria-label*="{label}"] .main-svg').first).to_be_visible()
    expect(inspect.locator(".places").first.locator("tbody tr")).to_have_count(len(DIGITS))
    expect(inspect.get_by_text("with 100% of the core of 2.")).to_be_visible()
    read = inspect.locator(".places .read")
    expect(read).to_have_count(len(DIGITS))
    for file, words in zip(DIGITS, read.all_inner_texts(), strict=True):
        for value in file.stem.partition("-")[2].split("+"):
            assert f"{value} " in words


def test_uploaded_images_are_inspected_and_an_unreadable_one_is_named(inspect, tmp_path):
    photo, broken = tmp_path / "photo.jpg", tmp_path / "broken.png"
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    broken.write_text("words")
    upload(inspect, photo, DIGITS[0], broken)
    expect(inspect.get_by_text("2 images, a core for each")).to_be_visible()
    expect(inspect.locator(".message.error", has_text="broken.png")).to_be_visible()
    expect(inspect.locator(".places").first.locator("tbody th").first).to_contain_text("1. photo.jpg")


@pytest.mark.slow
def test_too_many_images_are_refused(inspect, tmp_path):
    many = [tmp_path / f"{i}.png" for i in range(17)]
    for path in many:
        Image.new("RGB", (8, 8)).save(path)
    upload(inspect, *many)
    expect(inspect.locator(".message.error", has_text="give 16 images at most")).to_be_visible()


@pytest.mark.slow
def test_figures_grow_with_the_number_of_images_and_follow_the_width(inspect, tmp_path):
    area = inspect.locator('.plot-area[aria-label*="Fingerprints"]')
    box = "area => [area.clientHeight, area._fullLayout.height, area.clientWidth - area._fullLayout.width]"
    expect(area.locator(".main-svg").first).to_be_visible()
    high, drawn, _ = area.evaluate(box)
    assert high == drawn == 610  # as the empty box: nothing jumps
    many = [tmp_path / f"{i}.png" for i in range(16)]
    for path in many:
        shutil.copy(DIGITS[0], path)
    upload(inspect, *many)
    expect(inspect.get_by_text("16 images, a core for each")).to_be_visible()
    expect(area).to_have_css("height", "1820px")
    wide = area.evaluate("area => area.clientWidth")
    inspect.get_by_role("button", name="Toggle Sidebar").click()
    follows = "([area, wide]) => area.clientWidth < wide - 50"
    inspect.wait_for_function(follows, arg=[area.element_handle(), wide])
    inspect.wait_for_timeout(1000)  # for the sidebar's slide to end
    high, drawn, beside = area.evaluate(box)
    assert high == drawn == 1820 and abs(beside) < 2


@pytest.mark.slow
def test_swap_and_blend_move_the_image(inspect):
    said = inspect.locator(".message.status", has_text="moves by")
    place = inspect.locator(".places").last
    expect(said).to_contain_text("1. ")
    before = place.inner_html()
    choose(inspect, "Core from", "3.")
    expect(said).to_contain_text("100% of the core of 3.")
    assert place.inner_html() != before
    swapped = said.inner_text()
    inspect.get_by_label("number input for Fraction of that core").fill("0.5")
    inspect.get_by_label("number input for Fraction of that core").press("Enter")
    expect(said).to_contain_text("50% of the core of 3.")
    assert said.inner_text() != swapped


def test_one_photograph_is_shown_as_well_as_five(inspect, tmp_path):
    photo = tmp_path / "mine.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(photo)
    upload(inspect, photo)
    expect(inspect.get_by_text("1 image, a core for each")).to_be_visible()
    expect(inspect.locator(".look figcaption")).to_contain_text("1. mine.jpg")
    expect(inspect.locator(".look-table tbody tr")).to_have_count(len(ADAPTERS))
    expect(inspect.locator(".look-table .moved")).to_have_count(len(ADAPTERS))
    for label in ("Cosine similarity", "codes"):
        expect(inspect.locator(f'.plot-area[aria-label*="{label}"]')).to_have_count(0)
    titles = inspect.locator('.plot-area[aria-label*="Fingerprints"] .cbtitle')
    expect(titles).to_have_count(2)
    upper, lower = sorted((title.bounding_box() for title in titles.all()), key=lambda box: box["y"])
    assert upper["y"] + upper["height"] < lower["y"]  # they do not lie on each other


@pytest.mark.slow
def test_pooled_images_share_a_core_and_cannot_swap(inspect):
    inspect.get_by_label("Pool: one core for all images").check()
    expect(inspect.get_by_text("one core for all of them")).to_be_visible()
    expect(inspect.get_by_text("switch pooling off to swap cores")).to_be_visible()


def test_pooling_images_of_different_tasks_warns(digits):
    digits.locator("button.label-wrap", has_text=FOLDED[0]).click()
    digits.get_by_label("Pool: one core for all images").check()
    expect(digits.get_by_text("Warning: these images show different tasks")).to_be_visible()


@pytest.mark.slow
def test_a_static_method_says_that_it_has_one_adapter(inspect):
    choose(inspect, "Adapter", "LoRA on resnet20, corrupted photographs (bundled)")
    expect(inspect.get_by_text("LoRA has one adapter for every image: its strengths are constant")).to_be_visible()
    expect(inspect.get_by_text("there is no core to swap")).to_be_visible()
    expect(inspect.locator('.plot-area[aria-label*="Fingerprints"]')).to_have_count(0)
    expect(inspect.locator('.plot-area[aria-label*="Strength of each"] .main-svg').first).to_be_visible()
    closer = inspect.locator('.plot-area[aria-label*="its constant update"]')
    expect(inspect.get_by_text("ΔW of one layer, the same for every image")).to_be_visible()
    expect(closer.locator(".main-svg").first).to_be_visible()
    choose(inspect, "Layer", "layer3.0.conv1")
    inspect.wait_for_function("area => area._fullData[0].z.length === 64", arg=closer.element_handle())
    choose(inspect, "Layer", "layer1.0.conv1")
    inspect.wait_for_function("area => area._fullData[0].z.length === 16", arg=closer.element_handle())


@pytest.mark.slow
def test_cores_are_downloaded(inspect):
    for kind, name in (("CSV", "cores.csv"), ("npz", "cores.npz")):
        with inspect.expect_download() as download:
            inspect.get_by_role("button", name=f"Download {kind}").click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).stat().st_size > 1000


def test_a_narrow_screen_shows_all_without_scrolling_sideways(visit):
    page = visit(width=400, theme="dark")
    expect(page.locator(".sidebar")).not_to_have_class(re.compile(r"\bopen\b"))  # open, it covers a narrow page
    expect(page.get_by_text("5 images, a core for each")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
