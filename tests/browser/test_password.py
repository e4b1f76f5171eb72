"""METALORA_AUTH in a browser: the page asks for user and password, and nothing is answered without them."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from pages.security import AUTH

API = "/gradio_api"


@pytest.fixture(scope="module")
def locked(serve, tmp_path_factory):
    """Address of an app that asks for a password."""
    folder = tmp_path_factory.mktemp("locked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(AUTH, "me:let me in")
        patch.setenv("GRADIO_MCP_SERVER", "True")
        process, address = serve(folder / "workspace", folder / "app.log", answer="health")
    yield address
    process.terminate()
    process.wait(60)


@pytest.fixture
def page(browser, locked):
    """The page of a visitor who is not known yet."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(locked)
    yield page
    context.close()


def log_in(page, password):
    """Fill in the form."""
    page.get_by_label("username").fill("me")
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()


def test_only_the_right_password_opens_the_page(page):
    expect(page.get_by_role("button", name="Login")).to_be_visible()
    expect(page.get_by_role("tab")).to_have_count(0)
    log_in(page, "let me out")
    expect(page.get_by_text(re.compile("incorrect", re.IGNORECASE))).to_be_visible()
    expect(page.get_by_role("tab")).to_have_count(0)
    log_in(page, "let me in")
    expect(page.get_by_role("tab", name="Look", exact=True)).to_be_visible()
    expect(page.locator("#settled input")).to_have_value("1")
    page.get_by_role("tab", name="About", exact=True).click()  # which works as without a password
    expect(page.get_by_role("heading", name="Words")).to_be_visible()
    page.reload()
    expect(page.get_by_role("tab", name="Look", exact=True)).to_be_visible()


def test_programs_are_asked_too(locked):
    with httpx.Client(base_url=locked) as client:
        body = {"data": ["digits-default"]}
        for answer in (
            client.get("/config"),
            client.get(f"{API}/info"),
            client.get(f"{API}/file=/etc/passwd"),
            client.post(f"{API}/run/compare", json=body),
            client.post(f"{API}/call/compare", json=body),
            client.post(f"{API}/queue/join", json={**body, "fn_index": 0, "session_hash": "a"}),
            client.post(f"{API}/upload", files={"files": ("a.png", b"x")}),
            client.post(f"{API}/mcp/", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
            client.get(f"{API}/mcp/"),
        ):
            assert answer.status_code == 401, answer.url
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "let me in"}).status_code == 200
        assert client.post(f"{API}/run/compare", json=body).json()["data"][0]
        assert client.get("/health").status_code == 200  # for what watches the app
