"""The page that answers while the app starts."""

import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from metalora.views.first_look import read_first_look
from pages.waiting import WaitingPage, open_waiting_page


@pytest.fixture
def waiting():
    page = WaitingPage("127.0.0.1", range(0, 1))
    yield f"http://127.0.0.1:{page.port}"
    page.close()


def read(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.status, answer.headers, answer.read().decode()


def test_the_first_example_is_on_the_page(waiting):
    status, headers, text = read(waiting)
    look = read_first_look()
    assert status == 200 and headers["X-Starting"] == "yes"
    assert look["table"] in text and look["image"] in text and "<!-- " not in text.partition("<main>")[2]
    assert "plotly" in read(f"{waiting}/plotly.js?v=1")[2][:300]
    assert ".look-table" in read(f"{waiting}/style.css")[2]


def test_programs_are_told_that_the_app_is_not_there_yet(waiting):
    for path in ("config", "gradio_api/info", "../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="503"):
            read(f"{waiting}/{path}")


def test_a_port_in_use_is_passed_over_and_a_chosen_one_is_left_to_gradio_to_refuse(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        page = WaitingPage("127.0.0.1", range(port, port + 20))
        assert port < page.port < port + 20
        page.close()
        assert open_waiting_page({"server_name": "127.0.0.1", "server_port": port}) is None


def test_a_space_has_no_such_page(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/metalora")
    assert open_waiting_page({}) is None


def test_it_needs_nothing_that_takes_long_to_import():
    heavy = {"torch", "gradio", "timm", "pandas", "plotly"}
    code = f"import sys, pages.waiting; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
