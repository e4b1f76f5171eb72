"""The ten lines of docs/how-to/scatter-component.md make an app; what is published names no file of this machine."""

import re
from pathlib import Path

from playwright.sync_api import expect

from pages.plot import PLOTLY_JS, Plot

DOCUMENT = (Path(__file__).parents[2] / "docs" / "how-to" / "scatter-component.md").read_text(encoding="utf-8")
PROGRAM = re.search(r"## Ten lines\n\n```python\n(.*?)```", DOCUMENT, re.DOTALL)[1]


def test_ten_lines_show_points_and_report_a_click(browser, serve, tmp_path):
    assert len([line for line in PROGRAM.splitlines() if line]) == 10
    process, address = serve(tmp_path, tmp_path / "page.log", ("-c", PROGRAM))
    page = browser.new_page()
    page.goto(address)
    area = page.locator(".plot-area")
    expect(area.locator(".main-svg").first).to_be_visible()
    expect(page.locator(".plot-tools")).to_be_hidden()  # nothing to search, no slider
    x, y = area.evaluate("""area => {
        const {xaxis, yaxis} = area._fullLayout;
        return [xaxis._offset + xaxis.l2p(1), yaxis._offset + yaxis.l2p(2)];
    }""")
    box = area.bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.click(box["x"] + x, box["y"] + y)
    expect(page.get_by_label("Chosen")).to_have_value("{'row': 1}")
    page.close()
    process.terminate()
    process.wait(30)


def test_what_is_published_is_whole_and_names_no_file_of_this_machine():
    entry = Plot(label="Points")._to_publish_format(head=re.search(r"plotly_js = '(.*)'", DOCUMENT)[1])
    assert "https://cdn.plot.ly/" in entry["head"]
    assert not [part for part, text in entry.items() if str(PLOTLY_JS.parent) in str(text)]
    for name in ("function draw()", "function overlay()", "function look()"):
        assert name in entry["js_on_load"]
    assert ".plot-over" in entry["css_template"] and "plot-search" in entry["html_template"]
