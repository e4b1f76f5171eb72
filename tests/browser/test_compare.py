"""Compare, as a person uses it: read the main study, look at other results, run a row that is missing, stop, go on."""

import re
import time

import pytest
from playwright.sync_api import expect

from metalora.experiments.variants import CONTROLS, DEFAULT
from metalora.views.compare_questions import MINE, QUESTIONS, title

ALL_NUMBERS = "All numbers: every column, accuracy against budget, every task"


def short(page):
    return page.locator(".results.short").first


def whole(page):
    return page.locator(".results:not(.short)").first


def show(page, open_tab):
    """The tab, once its start is over: until then what the browser kept may still arrive in the fields."""
    open_tab(page, "Compare")
    expect(row(page, "metalora-tr-factors@8").locator("td").first).not_to_be_empty()


def row(page, name, table=short):
    return table(page).locator("tbody tr").filter(has=page.get_by_text(name, exact=True))


def ask(page, question):
    page.get_by_label("Question", exact=True).click()
    page.get_by_role("option", name=question).click()


def choose(page, results):
    page.get_by_label("Results", exact=True).click()
    page.get_by_role("option", name=results, exact=True).click()


def unfold(page, name):
    page.get_by_role("button", name=name).click()


def own_rows(page):
    ask(page, MINE)
    expect(short(page).or_(message(page, "No run of yours is finished yet")).first).to_be_visible()
    choose(page, "Rows ticked below")


def message(page, text):
    return page.locator("p.message", has_text=text).first


def only_one_quick_row(page):
    """LoRA alone, on one backbone, two steps."""
    names = [f"({name})" for name in (*DEFAULT, *CONTROLS) if name != "lora"]
    for name in (*names, "mixer_nano"):
        page.locator("label", has_text=name).get_by_role("checkbox").uncheck()
        page.wait_for_timeout(300)  # a group of boxes loses clicks that follow each other faster than a person's
    page.get_by_label("Steps", exact=True).last.fill("2")


def test_the_main_study_opens_with_what_it_found(page, open_tab):
    show(page, open_tab)
    expect(message(page, "significantly beats LoRA (equal budget) on seen and unseen tasks")).to_be_visible()
    eight = row(page, "metalora-tr-factors@8").locator("td")
    expect(eight.nth(0)).to_have_text(re.compile(r"^66\.8\* ± 0\.7$"))
    expect(eight.nth(2)).to_have_text("+5.8 (+5.3 to +6.4)")
    expect(row(page, "metalora-tr-factors-oracle").locator("b")).to_have_count(0)
    expect(page.locator("#compare-view .plot-area .main-svg").first).to_be_visible()
    unfold(page, ALL_NUMBERS)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.path().read_text().startswith("method,resnet20 seen K=5")
    unfold(page, "How it was measured")
    expect(page.get_by_text("Holm-corrected p < 0.05")).to_be_visible()
    expect(page.locator(".cm-content", has_text="python -m metalora study primary").first).to_be_visible()
    unfold(page, "The paper's Table I")
    expect(page.locator(".paper table")).to_contain_text("73.24*")
    expect(short(page)).not_to_contain_text("73.24")


def test_rows_are_filtered_and_sorted(page, open_tab):
    show(page, open_tab)
    page.get_by_label("Filter rows").fill("TR @8")
    expect(row(page, "metalora-tr@8")).to_be_visible()
    expect(row(page, "lora-equal-budget")).to_have_count(0)
    page.get_by_label("Filter rows").fill("no such row")
    expect(message(page, "No row has 'no such row' in its name")).to_be_visible()
    expect(page.locator(".results.short")).to_have_count(0)
    page.get_by_label("Filter rows").fill("")
    expect(row(page, "lora-equal-budget")).to_be_visible()
    heading = short(page).get_by_role("columnheader", name="seen", exact=True).first
    heading.get_by_role("button").press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    generated = short(page).locator("tbody").first.locator("tr:has(td)")
    expect(generated.first).to_contain_text("metalora-tr-factors@all")
    expect(generated.last).to_contain_text("metalora-tr-factors@1")
    page.get_by_label("Filter rows").fill("TR @")
    expect(row(page, "lora-equal-budget")).to_have_count(0)
    expect(heading).to_have_attribute("aria-sort", "descending")  # a table drawn anew stays sorted


@pytest.mark.slow
def test_a_study_brings_its_own_backbone_and_gallery(page, open_tab):
    show(page, open_tab)
    choose(page, title("mixer/mixer"))
    expect(short(page).locator("caption")).to_contain_text("mixer_nano")
    ask(page, "Unseen tasks?")
    choose(page, title("breadth/omniglot-greek"))
    expect(short(page).locator("caption")).to_contain_text("within gallery")
    unfold(page, ALL_NUMBERS)
    expect(page.get_by_role("radio", name="within", exact=True)).to_be_checked()
    tasks = page.get_by_label("Accuracy of every task")
    expect(tasks.locator(".main-svg").first).to_be_visible()
    page.get_by_role("radio", name="pooled", exact=True).check()
    expect(whole(page).locator("caption")).to_contain_text("pooled gallery")
    expect(message(page, "Accuracies of single tasks were kept for the within gallery at K = 5 only")).to_be_visible()
    expect(tasks.locator(".main-svg")).to_have_count(0)
    assert tasks.bounding_box()["height"] == 0  # what is not there takes no room


# Notes every caption of the short table together with the rows under it.
WATCH = """() => {
  window.pairs = [];
  const note = () => {
    const table = document.querySelector('.results.short table');
    if (!table) return;
    const rows = [...table.querySelectorAll('tbody code')].map((code) => code.textContent).join(' ');
    const pair = JSON.stringify([table.caption.textContent, rows]);
    if (!window.pairs.includes(pair)) window.pairs.push(pair);
  };
  note();
  new MutationObserver(note).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


@pytest.mark.slow
def test_caption_and_rows_change_together(page, open_tab):
    show(page, open_tab)
    page.evaluate(WATCH)
    names = ("mixer/mixer", "breadth/shifts", "primary/main")
    for name in names:
        choose(page, title(name))
        expect(short(page).locator("caption")).to_contain_text(title(name))
    pairs = page.evaluate("window.pairs.map((pair) => JSON.parse(pair))")
    assert len(pairs) == len(names)  # as many rows as captions, none with the rows of another
    assert len({rows for _, rows in pairs}) == len(names)


@pytest.mark.slow
def test_a_change_of_view_takes_half_a_second(page, open_tab, capsys):
    show(page, open_tab)
    page.wait_for_timeout(10_000)  # what follows the start is over
    times = {}

    def timed(what, act, changed):
        started = time.monotonic()
        act()
        page.wait_for_function(changed, polling="raf")
        times[what] = time.monotonic() - started

    def caption_has(words):
        return f"document.querySelector('.results.short caption')?.textContent.includes({words!r})"

    for name in ("mixer/mixer", "breadth/corruptions", "primary/main"):
        page.get_by_label("Results", exact=True).click()
        option = page.get_by_role("option", name=title(name), exact=True)
        timed(name, option.click, caption_has(title(name)))
    rows = "document.querySelectorAll('.results.short tbody td').length"
    timed("filter", lambda: page.get_by_label("Filter rows").fill("@8"), f"{rows} < 40")
    unfold(page, ALL_NUMBERS)
    page.wait_for_timeout(2000)
    shown = "document.querySelector('.results:not(.short) caption')?.textContent.includes('within gallery')"
    timed("gallery", page.get_by_role("radio", name="within", exact=True).check, shown)
    axis = "[...document.querySelectorAll('.ytitle')].some((text) => text.textContent.includes('K = 10'))"
    timed("K", page.get_by_role("radio", name="10", exact=True).check, axis)
    axis = "[...document.querySelectorAll('.ytitle')].some((text) => text.textContent.includes(', seen'))"
    timed("seen", page.get_by_role("radio", name="seen", exact=True).check, axis)
    with capsys.disabled():
        print({what: round(taken, 2) for what, taken in times.items()})
    assert max(times.values()) <= 0.5, times


@pytest.mark.slow
def test_every_question_has_results(page, open_tab):
    show(page, open_tab)
    for question in QUESTIONS[1:]:
        ask(page, question.text)
        expect(short(page).locator("caption")).to_contain_text(title(next(iter(question.results))))


def test_nothing_overlaps_on_a_narrow_screen(visit, open_tab):
    page = visit(width=400)
    show(page, open_tab)
    unfold(page, ALL_NUMBERS)
    expect(page.locator(".plot-area:visible .main-svg")).not_to_have_count(0)
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    gains, budget = page.locator("#compare-view .plot-area"), page.get_by_label("Accuracy against trained parameters")
    for words in (gains.locator(".gtitle"), budget.locator(".xtitle"), budget.locator(".ytitle")):
        box = words.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    figure, top = gains.bounding_box(), gains.locator(".gtitle").bounding_box()["y"]
    assert top >= figure["y"]  # the title is not cut
    reached = page.evaluate("document.querySelector('.results.short td:last-child').getBoundingClientRect().right")
    assert reached <= 400  # gains are seen without scrolling
    tasks = page.get_by_label("Accuracy of every task").locator(".main-svg").first
    expect(tasks).to_be_visible()
    assert tasks.bounding_box()["width"] >= 640  # legible: it scrolls in its own box


@pytest.mark.slow
def test_own_rows_say_not_run_until_they_are(page, open_tab):
    show(page, open_tab)
    own_rows(page)
    cells = row(page, "metalora-tr-constant").locator("td")
    expect(cells.first).to_have_text("not run")
    expect(cells.filter(has_text=re.compile(r"^0(\.0)?$"))).to_have_count(0)
    expect(message(page, "Not tested:")).to_be_visible()
    for label, value in (("Seeds", "11"), ("Seeds", ""), ("Steps", "0")):
        page.get_by_label(label, exact=True).last.fill(value)
        refusal = f"{label.lower()} is {value or 'empty'}: use a whole number"
        expect(page.locator(".message.error", has_text=refusal).first).to_be_visible()
        page.get_by_label(label, exact=True).last.fill("2")


@pytest.mark.slow
def test_a_missing_row_is_run_and_stays(page, open_tab):
    show(page, open_tab)
    own_rows(page)
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
    show(page, open_tab)
    ask(page, MINE)
    choose(page, "Own comparison on digits, 1 row (resnet20, 1 seed, 2 steps)")
    expect(row(page, "lora").locator("td").first).to_have_text(re.compile(r"^\d+\.\d$"))
