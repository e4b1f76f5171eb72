"""Compare, as a person uses it: look at what is bundled, run a row that is missing, stop, go on."""

import re

import pytest
from playwright.sync_api import expect

from metalora.experiments.variants import CONTROLS, DEFAULT


def table(page):
    return page.locator(".results table").first


def show(page, open_tab):
    """The tab, once its start is over: until then what the browser kept may still arrive in the fields."""
    open_tab(page, "Compare")
    expect(row(page, "metalora-tr").locator("td").first).not_to_be_empty()


def row(page, name):
    return table(page).locator("tbody tr").filter(has=page.get_by_text(name, exact=True))


def choose(page, results):
    page.get_by_label("Results", exact=True).click()
    page.get_by_role("option", name=results).click()


def message(page, text):
    return page.locator("p.message", has_text=text).first


def only_one_quick_row(page):
    """LoRA alone, on one backbone, two steps."""
    names = [f"({name})" for name in (*DEFAULT, *CONTROLS) if name != "lora"]
    for name in (*names, "mixer_nano"):
        page.locator("label", has_text=name).get_by_role("checkbox").uncheck()
        page.wait_for_timeout(300)  # a group of boxes loses clicks that follow each other faster than a person's
    page.get_by_label("Steps", exact=True).last.fill("2")


def test_bundled_results_fill_the_first_screen(page, open_tab):
    show(page, open_tab)
    expect(row(page, "metalora-tr").locator("td").first).to_have_text(re.compile(r"^\d\d\.\d"))
    expect(page.get_by_text("n too small for stars: fewer than 6 seeds.")).to_be_visible()
    expect(page.locator(".cm-content", has_text="python -m metalora compare").first).to_be_visible()
    expect(page.locator(".plot-area:visible .main-svg").first).to_be_visible()
    paper = page.locator(".paper table")
    expect(paper).to_contain_text("73.24*")
    expect(table(page)).not_to_contain_text("73.24")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.path().read_text().startswith("method,resnet20 seen K=5")


def test_rows_are_chosen_by_the_size_of_their_sets(page, open_tab):
    show(page, open_tab)
    expect(row(page, "metalora-tr")).to_be_visible()
    page.get_by_label("sets of 8", exact=True).check()
    expect(row(page, "metalora-tr")).to_have_count(0)
    expect(row(page, "metalora-tr@8")).to_be_visible()
    expect(row(page, "lora")).to_be_visible()


def test_a_study_brings_its_own_backbones(page, open_tab):
    show(page, open_tab)
    choose(page, "mixer/mixer:")
    expect(row(page, "metalora-tr-factors@all")).to_be_visible()
    menu = page.get_by_role("radio", name="mixer_nano", exact=True)
    expect(menu).to_be_checked()
    expect(page.get_by_role("radio", name="resnet20", exact=True)).to_have_count(0)
    expect(page.get_by_text("is not among these results")).to_have_count(0)


def test_results_are_read_first_on_the_gallery_that_counts(page, open_tab):
    show(page, open_tab)
    choose(page, "breadth/omniglot-greek:")
    expect(page.get_by_role("radio", name="within", exact=True)).to_be_checked()
    expect(page.get_by_text("Measured: k-NN accuracy in %, within gallery")).to_be_visible()
    page.get_by_role("radio", name="pooled", exact=True).check()
    expect(
        page.get_by_text("Accuracies of single tasks were kept for the within gallery at K = 5 only")
    ).to_be_visible()


def test_own_rows_say_not_run_until_they_are(page, open_tab):
    show(page, open_tab)
    choose(page, "Own rows: those ticked below")
    cells = row(page, "metalora-tr-constant").locator("td")
    expect(cells.first).to_have_text("not run")
    expect(cells.filter(has_text=re.compile(r"^0(\.0)?$"))).to_have_count(0)
    expect(page.get_by_text("Stars need every training")).to_be_visible()
    for label, value in (("Seeds", "11"), ("Seeds", ""), ("Steps", "0")):
        page.get_by_label(label, exact=True).last.fill(value)
        refusal = f"{label.lower()} is {value or 'empty'}: use a whole number"
        expect(page.locator(".message.error", has_text=refusal).first).to_be_visible()
        page.get_by_label(label, exact=True).last.fill("2")


@pytest.mark.slow
def test_a_missing_row_is_run_and_stays(page, open_tab):
    show(page, open_tab)
    only_one_quick_row(page)
    expect(message(page, "0 of 1 trainings are done, 1 to run")).to_be_visible()
    expect(row(page, "lora").locator("td").first).to_have_text("not run")
    run, stop = (page.get_by_role("button", name=name, exact=True) for name in ("Run what is missing", "Stop"))
    run.click()
    expect(message(page, "Running: 0 of 1")).to_be_visible()
    stop.last.click()
    expect(message(page, "Nothing is running: trainings that ended are kept")).to_be_visible()
    run.click()
    expect(message(page, "Running: 0 of 1")).to_be_visible()
    expect(row(page, "lora").locator("td").first).to_have_text(re.compile(r"^\d+\.\d$"))
    page.reload()
    open_tab(page, "Compare")
    expect(page.get_by_label("Steps", exact=True).last).to_have_value("2")
    expect(message(page, "All trainings of these rows are done")).to_be_visible()
