"""Train, as a person uses it: start, watch, reload, stop, resume; and nobody else sees it."""

import io
import re
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import expect

from metalora.runs.presets import PRESETS

PROGRESS = re.compile(r"Running: step [1-9]\d* of \d+")


def short_run(page, open_tab, steps="6"):
    """A run of few steps, so that it can be watched to its end."""
    open_tab(page, "Train")
    page.get_by_label("Tiny").click()
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value(str(PRESETS["Tiny"].steps))
    page.wait_for_timeout(1000)  # the page sets the size's fields once more, sooner than a person types
    for label, value in (("Steps", steps), ("Batch", "16"), ("Validate every", "20")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Max queries").fill("60")
    page.get_by_label("Max train images").fill("30")


def start(page):
    page.get_by_role("button", name="Start", exact=True).click()


def message(page, text):
    return page.locator(".run-state p.message", has_text=text).first


def words(page):
    """What the tab says of its run."""
    return page.locator(".run-state .message.status").first.text_content()


def stop(page):
    """Stops the run and returns the step at which it stands."""
    page.get_by_role("button", name="Stop").click()
    expect(message(page, "Stopped: step")).to_be_visible()
    return int(re.search(r"step (\d+) of", message(page, "Stopped: step").inner_text())[1])


def test_a_run_outlives_a_reload_and_is_stopped_resumed_and_downloaded(page, visit, open_tab):
    short_run(page, open_tab, steps="5000")  # not over before it is stopped, however fast the machine
    start(page)
    expect(message(page, PROGRESS)).to_be_visible()
    top = "area => area.getBoundingClientRect().top + scrollY"
    place = page.locator(".plot-area:visible").first.evaluate(top)
    expect(page.get_by_role("progressbar", name="Steps that are done")).to_be_visible()
    page.reload()
    open_tab(page, "Train")
    expect(message(page, PROGRESS)).to_be_visible()
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("5000")
    stopped_at = stop(page)
    assert page.locator(".plot-area:visible").first.evaluate(top) == pytest.approx(place, abs=1)  # nothing pushed it
    assert page.locator(".sidebar .message.status").first.text_content() == words(page)
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    other = visit()
    open_tab(other, "Train")
    expect(other.get_by_text("Runs that you train appear here.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    on = page.locator(".run-state p.message.status", has_text=PROGRESS, has_not_text=f"step {stopped_at} of")
    expect(on.first).to_be_visible()
    expect(message(page, re.compile(r"step \d+ of 5000, [1-9]\d*:\d\d left"))).to_be_visible()
    assert stop(page) > stopped_at
    with page.expect_download() as download:
        page.get_by_role("button", name="Download adapter").click()
    assert download.value.suggested_filename == "adapter.zip"
    answers = iter([False, True])
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    held = []  # the "no", which a busy server has not heard of when the button is pressed again
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/queue/join*"):
        page.get_by_role("button", name="Delete", exact=True).click()
    expect(message(page, "Stopped: step")).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("Runs that you train appear here.")).to_be_visible()
    held[0].continue_()


@pytest.mark.parametrize("after", [0.06, *(pytest.param(after, marks=pytest.mark.slow) for after in (0.03, 0.1, 0.2))])
def test_a_page_that_is_left_right_after_start_leaves_no_run_that_hangs(page, open_tab, after):
    short_run(page, open_tab, steps="5000")
    expect(page.locator(".cost .message", has_text="About")).to_be_visible()
    start(page)
    page.wait_for_timeout(1000 * after)
    page.reload()
    open_tab(page, "Train")
    expect(page.locator(".runs tbody tr, .runs .none").locator("visible=true").first).to_be_visible()
    page.wait_for_timeout(4000)  # two updates of the page
    if page.locator(".runs tbody tr").count():  # the server had heard of it: then it trains
        expect(page.locator(".runs tbody tr").first).to_contain_text(re.compile("queued|running"))
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".runs tbody tr").first).to_contain_text("stopped")
        expect(page.get_by_role("button", name="Resume")).to_be_enabled()
    else:
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def finished_run(page, open_tab):
    short_run(page, open_tab)
    page.get_by_label("Validate every", exact=True).fill("3")
    start(page)
    expect(message(page, "Finished: step 6 of 6.")).to_be_visible()


def test_a_finished_run_shows_its_gain_and_leads_on(page, open_tab):
    finished_run(page, open_tab)
    result = page.locator(".result .message")
    expect(result).to_contain_text(
        re.compile(r"Seen tasks [\d.]+ % \(original network [\d.]+ %, gain [+−][\d.]+ points\)")
    )
    curve = page.locator(".plot-area:visible").first
    validations = "area => Array.from(area._fullData.find((trace) => trace.name === 'validation').x)"
    assert curve.evaluate(validations) == [0, 3, 6]
    log = page.locator(".log")
    expect(log).to_contain_text("Validation")
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight < 2")
    page.get_by_role("button", name="See its adapters").click()
    expect(page.get_by_role("tab", name="Look", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Adapter", exact=True).first).to_have_value(re.compile("6 steps, digits, resnet20"))


@pytest.mark.slow
def test_runs_are_named_compared_and_deleted(page, open_tab):
    finished_run(page, open_tab)
    page.get_by_label("Name", exact=True).fill("<b>mine</b>")
    page.keyboard.press("Enter")
    row = page.locator(".runs tbody tr").first
    expect(row.get_by_role("button")).to_have_text("<b>mine</b>")
    expect(row).to_contain_text("finished")
    page.get_by_label("Method", exact=True).click()
    page.get_by_role("option", name="LoRA", exact=True).click()
    page.get_by_label("Steps", exact=True).fill("4")
    start(page)
    expect(message(page, "Finished: step 4 of 4.")).to_be_visible()
    expect(page.locator(".runs tbody tr")).to_have_count(2)
    for box in page.locator(".runs input").all():
        box.check()
    curves = page.get_by_role("group", name="Validation of the ticked runs")
    expect(curves.locator(".legendtext")).to_have_count(2)
    page.get_by_role("button", name="<b>mine</b>").first.click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("<b>mine</b>")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete ticked runs").click()
    expect(page.get_by_text("Runs that you train appear here.")).to_be_visible()


def choose_own(page):
    page.get_by_label("Data", exact=True).click()
    page.get_by_role("option", name="My own images").click()


def write_archive(file, tasks=("photo/", "toy/"), each=12):
    """Write a zip of two classes of images, in two tasks or in none."""
    with zipfile.ZipFile(file, "w") as archive:
        names = [f"{task}{kind}/{i}.png" for task in tasks for kind in ("cat", "dog") for i in range(each)]
        for number, name in enumerate(names):
            image = io.BytesIO()
            Image.new("RGB", (16, 16), (number, 2 * number % 250, 200 if "cat" in name else 20)).save(image, "PNG")
            archive.writestr(name, image.getvalue())


@pytest.mark.slow
def test_archives_are_listed_chosen_after_a_reload_and_deleted(page, open_tab, tmp_path):
    write_archive(tmp_path / "mine.zip")
    open_tab(page, "Train")
    choose_own(page)
    expect(page.get_by_text("No archive yet: send a zip")).to_be_visible()
    expect(page.locator(".message.error", has_text="upload a zip archive")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    expect(page.get_by_role("button", name="Delete archive")).to_be_disabled()
    page.locator('input[type=file][accept=".zip"]').set_input_files(tmp_path / "mine.zip")
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    expect(page.get_by_label("Uploaded archives")).to_have_value(re.compile(r"mine\.zip, 0\.1 MB, used 20"))
    page.reload()
    open_tab(page, "Train")
    expect(page.get_by_label("Uploaded archives")).to_have_value(re.compile(r"mine\.zip"))
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
    answers = iter([False, True])
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    page.get_by_role("button", name="Delete archive").click()
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
    page.get_by_role("button", name="Delete archive").click()
    expect(page.get_by_text("No archive yet: send a zip")).to_be_visible()
    expect(page.get_by_label("Uploaded archives")).to_have_value("")


def test_a_small_archive_is_judged_when_it_is_sent_and_trains(page, open_tab, tmp_path):
    write_archive(tmp_path / "small.zip", tasks=("",), each=40)
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("one.png", b"")
    short_run(page, open_tab)
    choose_own(page)
    archives = page.locator('input[type=file][accept=".zip"]')
    archives.set_input_files(tmp_path / "flat.zip")
    expect(page.locator(".own-images .message.error", has_text="lie in no class folders")).to_be_visible()
    archives.set_input_files(tmp_path / "small.zip")
    expect(page.get_by_text("80 images in 2 classes")).to_contain_text(
        "16 for the gallery, 16 as queries. K = 1 and 3."
    )
    page.get_by_label("K", exact=True).fill("20")
    page.keyboard.press("Enter")
    expect(page.locator(".message.error", has_text="K = 20 is too large: the gallery")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_label("K", exact=True).press("Backspace")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    start(page)
    expect(message(page, "Finished: step 6 of 6.")).to_be_visible()
    expect(page.locator(".result .message")).to_contain_text("K = 3, in a gallery of all tasks")


@pytest.mark.slow
def test_uploaded_tasks_are_held_out_or_the_page_says_why_not(page, open_tab, tmp_path):
    write_archive(tmp_path / "mine.zip")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    short_run(page, open_tab)
    choose_own(page)
    archives = page.locator('input[type=file][accept=".zip"]')
    archives.set_input_files(tmp_path / "broken.zip")
    expect(page.locator(".own-images .message.error", has_text="This is not a whole zip archive")).to_be_visible()
    archives.set_input_files(tmp_path / "mine.zip")
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
    page.get_by_label("Tasks held out").click()
    page.get_by_role("option", name="toy").click()
    start(page)
    expect(message(page, "Finished: step 6 of 6.")).to_be_visible()


@pytest.mark.slow
def test_gaussian_cores_are_shown_with_their_uncertainty(page, open_tab):
    short_run(page, open_tab)
    page.get_by_role("radio", name="gaussian").check()
    start(page)
    expect(message(page, "Finished: step 6 of 6.")).to_be_visible()
    page.get_by_role("button", name="See its adapters").click()
    page.locator("button.label-wrap", has_text="All images side by side").click()
    table = page.get_by_role("region", name="Uncertainty of the cores")
    expect(table.get_by_role("columnheader", name="deviation of the core")).to_be_visible()
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(4)
    for row in rows.all():
        deviation, layer, spread, same = row.locator("td").all_text_contents()[-4:]
        assert float(deviation) > 0 and float(spread) >= 0
        assert re.fullmatch(r"\S+ \(\d\.\d{3}\)", layer) and re.fullmatch(r"\d+%", same)
