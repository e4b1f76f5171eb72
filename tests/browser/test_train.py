"""Train, as a person uses it: start, watch, reload, stop, resume; and nobody else sees it."""

import io
import re
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import expect

PROGRESS = re.compile(r"Running: step [1-9]\d* of \d+")


def short_run(page, open_tab, steps="6"):
    """A run of few steps, so that it can be watched to its end."""
    open_tab(page, "Configure")
    page.get_by_label("Tiny").click()
    expect(page.get_by_text("25.9 k static")).to_be_visible()
    open_tab(page, "Train")
    for label, value in (("Steps", steps), ("Batch", "16"), ("Validate every", "20")):
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Tasks, sizes and precision").click()
    page.get_by_label("Max queries").fill("60")
    page.get_by_label("Max train images").fill("30")


def message(page, text):
    return page.locator("p.message.status", has_text=text).first


def stop(page):
    """Stops the run and returns the step at which it stands."""
    page.get_by_role("button", name="Stop").click()
    expect(message(page, "Stopped: step")).to_be_visible()
    return int(re.search(r"step (\d+) of", message(page, "Stopped: step").inner_text())[1])


def test_a_run_outlives_a_reload_and_is_stopped_resumed_and_downloaded(page, visit, open_tab):
    short_run(page, open_tab, steps="5000")  # not over before it is stopped, however fast the machine
    page.get_by_role("button", name="Start").click()
    expect(message(page, PROGRESS)).to_be_visible()
    expect(page.get_by_role("progressbar", name="Steps that are done")).to_be_visible()
    page.reload()
    open_tab(page, "Train")
    expect(message(page, PROGRESS)).to_be_visible()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("5000")
    stopped_at = stop(page)
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    other = visit()
    open_tab(other, "Train")
    expect(message(other, "No run yet")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    on = page.locator("p.message.status", has_text=PROGRESS, has_not_text=f"step {stopped_at} of")
    expect(on.first).to_be_visible()
    assert stop(page) > stopped_at
    with page.expect_download() as download:
        page.get_by_role("button", name="Download adapter").click()
    assert download.value.suggested_filename == "adapter.zip"
    answers = iter([False, True])
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    held = []  # the "no", which a busy server has not heard of when the button is pressed again
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/queue/join*"):
        page.get_by_role("button", name="Delete").click()
    expect(message(page, "Stopped: step")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(message(page, "No run yet")).to_be_visible()
    held[0].continue_()


def test_bad_settings_are_refused(page, open_tab):
    open_tab(page, "Train")
    expect(page.get_by_text("(from Configure)")).to_be_visible()  # the form is filled
    page.get_by_label("Set size", exact=True).fill("7")
    expect(page.locator(".message.error", has_text="does not divide into sets of 7")).to_be_visible()
    page.get_by_label("Set size", exact=True).fill("1")
    expect(page.locator(".message.error", has_text="does not divide")).to_be_hidden()
    page.get_by_role("button", name="Tasks, sizes and precision").click()
    page.get_by_label("Image size").fill("4")
    expect(page.locator(".message.error", has_text="image_size is 4: use a whole number from 8")).to_be_visible()
    page.get_by_label("Image size").fill("0")
    page.get_by_label("My own images").click()
    expect(page.locator(".message.error", has_text="upload a zip archive")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("upload a zip archive")


def write_archive(file):
    """Write a zip of two tasks, two classes each, twelve images of both."""
    with zipfile.ZipFile(file, "w") as archive:
        for name in (
            f"{task}/{kind}/{i}.png" for task in ("photo", "toy") for kind in ("cat", "dog") for i in range(12)
        ):
            image = io.BytesIO()
            Image.new("RGB", (16, 16), (len(name), 9 * int(name[-5]), 90)).save(image, "PNG")
            archive.writestr(name, image.getvalue())


def test_archives_are_listed_chosen_after_a_reload_and_deleted(page, open_tab, tmp_path):
    write_archive(tmp_path / "mine.zip")
    open_tab(page, "Train")
    page.get_by_label("My own images").click()
    expect(page.get_by_text("No archive yet: send a zip")).to_be_visible()
    expect(page.get_by_role("button", name="Delete archive")).to_be_disabled()
    page.locator('input[type=file][accept=".zip"]').set_input_files(tmp_path / "mine.zip")
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
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


@pytest.mark.slow
def test_uploaded_images_make_a_suite_or_the_page_says_why_not(page, open_tab, tmp_path):
    write_archive(tmp_path / "mine.zip")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    short_run(page, open_tab)
    page.get_by_label("My own images").click()
    archives = page.locator('input[type=file][accept=".zip"]')
    archives.set_input_files(tmp_path / "broken.zip")
    expect(page.get_by_test_id("toast-body")).to_contain_text("This is not a whole zip archive")
    page.get_by_label("Clear").locator("visible=true").first.click()
    archives.set_input_files(tmp_path / "mine.zip")
    expect(page.get_by_text("48 images in 2 tasks")).to_be_visible()
    page.get_by_label("Tasks held out").click()
    page.get_by_role("option", name="toy").click()
    page.get_by_role("button", name="Start").click()
    expect(message(page, "Finished: step 6 of 6.")).to_be_visible()


def test_tasks_are_held_out_by_name(page, open_tab):
    open_tab(page, "Train")
    page.get_by_role("button", name="Tasks, sizes and precision").click()
    expect(page.get_by_text("None chosen: rotate-0+invert+green")).to_be_visible()
    page.get_by_label("CIFAR-10, 48 compositions").click()
    expect(page.get_by_text("None chosen: 16 of 48.")).to_be_visible()
    page.get_by_label("Digits: 12 tasks").click()
    expect(page.get_by_text("None chosen: rotate-0+invert+green")).to_be_visible()
    page.get_by_label("Tasks held out").click()
    page.get_by_role("option", name="rotate-90+plain+blue").click()
    open_tab(page, "Configure")
    expect(page.get_by_text("--hold-out rotate-90+plain+blue")).to_be_visible()
    open_tab(page, "Train")
    page.get_by_label("Tasks held out").fill("rotate-45")
    page.keyboard.press("Enter")
    expect(page.locator(".message.error", has_text="There is no task 'rotate-45' to hold out")).to_be_visible()
