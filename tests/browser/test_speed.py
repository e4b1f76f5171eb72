"""How fast the app is on this machine, against what two cores should reach.

    bash tests/run.sh -m slow -n 0 -s tests/browser/test_speed.py

prints each figure beside its limit; on an idle machine, for they are wall-clock times.
"""

import time
from pathlib import Path

import psutil
import pytest
import torch
from gradio_client import Client, handle_file
from playwright.sync_api import expect

from metalora.inspection.projection import project, warm_up
from metalora.runs.presets import PRESETS
from metalora.runs.run_log import read_events

pytestmark = pytest.mark.slow
EXAMPLES = sorted((Path(__file__).parents[2] / "assets" / "examples").glob("*.png"))


@pytest.fixture
def measured(capsys):
    """measured(what, value, most=…, least=…) prints a figure beside its limit and fails where it is beyond it."""

    def tell(what, value, unit="s", most=float("inf"), least=-float("inf")):
        limit = f"at most {most:g}" if most < float("inf") else f"at least {least:g}"
        with capsys.disabled():
            print(f"\n{what}: {value:.2g} {unit} ({limit})")
        assert least <= value <= most, what

    return tell


def test_a_first_picture_within_ten_seconds(browser, serve, tmp_path, measured):
    started = time.monotonic()
    process, address = serve(tmp_path / "workspace", tmp_path / "app.log", answer="")
    page = browser.new_page()
    page.goto(address)
    expect(page.locator(".main-svg").first).to_be_visible()
    expect(page.locator(".look-table tbody tr").first).to_be_visible()
    picture = time.monotonic() - started
    expect(page.get_by_role("tab", name="Look")).to_be_visible()
    expect(page.locator(".look-table tbody tr").first).to_be_visible()
    usable = time.monotonic() - started
    page.close()
    process.terminate()
    process.wait(30)
    measured("first picture after `python app.py`", picture, most=10)
    measured("the app itself", usable, most=20)


def test_a_knob_within_three_tenths_of_a_second(browser, serve, tmp_path, measured):
    process, address = serve(tmp_path / "workspace", tmp_path / "app.log")
    page = browser.new_page()
    page.goto(address)
    expect(page.get_by_text("5 images, a core for each")).to_be_visible()
    page.wait_for_timeout(20_000)  # what follows a look is over
    times = []
    for value in ("2", "3", "4", "5"):
        before = page.locator(".look img").get_attribute("src")
        field = page.get_by_label("number input for Blur, %")
        field.fill(value)
        started = time.monotonic()
        field.press("Enter")
        page.wait_for_function("before => document.querySelector('.look img').src !== before", arg=before)
        times.append(time.monotonic() - started)
    page.close()
    process.terminate()
    process.wait(30)
    measured("a knob, median of four", sorted(times)[1], most=0.3)


def test_inspect_within_two_seconds_then_half_a_second(browser, serve, tmp_path, capsys, measured):
    process, address = serve(tmp_path / "workspace", tmp_path / "app.log")
    client, times = Client(address, verbose=False), []
    for _ in range(3):
        started = time.monotonic()
        client.predict([handle_file(file) for file in EXAMPLES[:4]], api_name="/inspect_images")
        times.append(time.monotonic() - started)
    page = browser.new_page()
    page.goto(address)
    expect(page.get_by_text("5 images, a core for each")).to_be_visible()
    page.wait_for_timeout(20_000)  # what follows a look is over
    started = time.monotonic()
    page.locator("input[type=file][multiple]").set_input_files(EXAMPLES[:3])
    # Looks at every frame; `expect` would look now and then.
    page.wait_for_function("document.body.innerText.includes('3 images, a core for each')")
    drawn = time.monotonic() - started
    page.close()
    process.terminate()
    process.wait(30)
    measured("first inspection of four images", times[0], most=2)
    measured("later ones", max(times[1:]), most=0.5)
    with capsys.disabled():
        print(f"\nthe same on the page, from the upload to five figures drawn: {drawn:.2g} s")


def test_umap_of_two_thousand_points_within_five_seconds(measured):
    warm_up()
    features = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    started = time.monotonic()
    project(features)
    measured("UMAP of 2,000 points, once warm", time.monotonic() - started, most=5)


def test_the_smallest_size_gains_visibly_within_a_minute(browser, serve, tmp_path, open_tab, measured):
    workspace = tmp_path / "workspace"
    process, address = serve(workspace, tmp_path / "app.log")
    page = browser.new_page()
    page.goto(address)
    open_tab(page, "Train")
    page.get_by_label("Tiny").click()
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value(str(PRESETS["Tiny"].steps))
    started = time.monotonic()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("p.message.status", has_text="Finished: step").first).to_be_visible(timeout=300_000)
    taken = time.monotonic() - started
    page.close()
    process.terminate()
    process.wait(30)
    (log,) = workspace.rglob("events.jsonl")
    events = read_events(log.parent)
    gain = 100 * (events["validation"].iloc[-1] - events["original"].iloc[0])
    measured("Tiny preset, from Start to Finished", taken, most=60)
    measured("its gain over the original backbone on validation", gain, "points", least=5)


def test_watching_costs_little_and_an_idle_app_is_small(browser, serve, tmp_path, measured):
    process, address = serve(tmp_path / "workspace", tmp_path / "app.log")
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("tab", name="Train", exact=True).click()
    expect(page.get_by_text("Runs that you train appear here.")).to_be_visible()
    page.wait_for_timeout(30_000)  # the examples have been looked at
    app = psutil.Process(process.pid)
    before = sum(app.cpu_times()[:2])
    page.wait_for_timeout(60_000)
    used = sum(app.cpu_times()[:2]) - before
    memory = app.memory_info().rss / 2**30
    page.close()
    process.terminate()
    process.wait(30)
    measured("a page that watches (30 polls a minute)", 100 * used / 60, "% of a core", most=2)
    measured("memory of the idle app", memory, "GiB", most=1.5)
