"""Weights that a backbone lacks, fetched from the page."""

from playwright.sync_api import expect
from small_hub import NAME, small_hub


def test_missing_weights_are_sized_and_fetched(serve, browser, open_tab, tmp_path, monkeypatch):
    with small_hub() as hub:
        for variable, value in (("HF_ENDPOINT", hub), ("HF_HOME", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", "0")):
            monkeypatch.setenv(variable, value)
        process, address = serve(tmp_path / "workspace", tmp_path / "app.log")
        page = browser.new_page()
        try:
            page.goto(address)
            open_tab(page, "Train")
            backbone = page.get_by_label("Backbone", exact=True)
            backbone.fill(NAME)
            backbone.press("Enter")
            expect(page.locator(".message.error", has_text=f"The weights of {NAME} are not on")).to_be_visible()
            expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
            page.get_by_role("button", name="Fetch its weights").click()
            page.get_by_role("button", name="Fetch 1.0 MB from the Hub").click()
            expect(page.get_by_text(f"The weights of {NAME} are on this machine now.")).to_be_visible()
            expect(page.locator(".message.error", has_text="are not on this machine")).to_have_count(0)
            expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
        finally:
            page.close()
            process.terminate()
            process.wait(30)
