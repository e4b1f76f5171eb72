"""The plot component by itself, without an adapter behind it."""

import pytest
from browser.plot_page import END, START
from playwright.sync_api import expect


@pytest.fixture
def area(browser, serve, tmp_path):
    """The plot of `plot_page`, drawn."""
    process, address = serve(tmp_path, tmp_path / "page.log", ("tests/browser/plot_page.py",))
    page = browser.new_page()
    page.goto(address)
    area = page.locator(".plot-area")
    expect(area.locator(".main-svg").first).to_be_visible()
    yield area
    page.close()
    process.terminate()
    process.wait(30)


def points(area):
    """[x, y] of the points, then of the rings around the first and its neighbour."""
    return area.evaluate("area => area.data.flatMap(trace => Array.from(trace.x, (x, i) => [x, trace.y[i]]))")


def test_a_slider_moves_points_and_rings_from_one_adapter_to_the_other(area):
    slider = area.page.get_by_label("From the first adapter to the second")
    expect(slider).to_be_visible()
    expect(area.page.locator(".plot-morph .from")).to_have_text("LoRA")
    expect(area.page.locator(".plot-morph .to")).to_have_text("Meta-LoRA")
    assert points(area) == [*START, START[1], START[0]]
    slider.focus()
    slider.press("End")
    area.page.wait_for_function("area => area.data[0].x[0] === 4", arg=area.element_handle())
    assert points(area) == [*END, END[1], END[0]]
    for _ in range(50):
        slider.press("ArrowLeft")
    area.page.wait_for_function("area => area.data[0].x[0] === 2", arg=area.element_handle())
    assert points(area)[:2] == [[2, 1], [1, 1]]
