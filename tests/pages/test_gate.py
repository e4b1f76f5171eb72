"""What stands before Gradio: headers, room for uploads, a sentence where the queue is full; and who may come in."""

import os

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from metalora.runs.app_process import TEMPORARY
from metalora.util.errors import InputError
from pages.gate import MAX_REQUEST, Gate
from pages.security import AUTH, credentials, security_headers
from pages.waiting import open_waiting_page

NAMES = {"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Permissions-Policy"}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of an app of three routes behind the gate, with 1 GB of temporary files."""
    monkeypatch.setenv(TEMPORARY, str(tmp_path))
    monkeypatch.setenv("METALORA_MAX_TEMPORARY_GB", "1")

    def full(request):
        return JSONResponse({"detail": "Queue is full. Max size is 16 and size is 16."}, 503)

    def take(request):
        return PlainTextResponse("kept", headers={"Referrer-Policy": "origin"})

    routes = [
        Route("/gradio_api/queue/join", full, methods=["POST"]),
        Route("/gradio_api/upload", take, methods=["POST"]),
    ]
    return TestClient(Gate(Starlette(routes=routes)))


def test_every_response_has_the_headers(client):
    for answer in (client.get("/nowhere"), client.post("/gradio_api/queue/join"), client.post("/gradio_api/upload")):
        assert set(answer.headers) >= {name.lower() for name in NAMES}
    assert client.post("/gradio_api/upload").headers["referrer-policy"] == "origin"  # what an answer says itself stays


def test_the_page_may_be_framed_by_hugging_face_on_a_space_only(monkeypatch):
    assert "frame-ancestors 'self'" in security_headers()["Content-Security-Policy"]
    assert "huggingface" not in security_headers()["Content-Security-Policy"]
    monkeypatch.setenv("SPACE_ID", "me/space")
    assert "frame-ancestors 'self' https://huggingface.co" in security_headers()["Content-Security-Policy"]


def test_the_page_of_the_start_has_them_too():
    import urllib.request

    waiting = open_waiting_page({})
    assert waiting is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{waiting.port}/") as answer:
        assert set(answer.headers) >= NAMES
    waiting.close()


def test_a_full_queue_is_a_sentence(client):
    answer = client.post("/gradio_api/queue/join")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert answer.json() == {"detail": "The app is busy, its queue is full: try again in 5 seconds."}


def test_uploads_are_bounded_one_by_one_and_together(client, tmp_path):
    assert client.post("/gradio_api/upload", content=b"x").text == "kept"
    answer = client.post("/gradio_api/upload", content=iter([b"x"]))  # of unknown length
    assert answer.status_code == 413 and "says how long it is" in answer.json()["detail"]
    answer = client.post("/gradio_api/upload", headers={"Content-Length": str(MAX_REQUEST + 1)})
    assert answer.status_code == 413
    with (tmp_path / "large").open("wb") as file:
        os.truncate(file.fileno(), 10**9)
    refused = Gate(client.app.app)  # which looks anew
    answer = TestClient(refused).post("/gradio_api/upload", content=b"x")
    assert answer.status_code == 507 and "no room for files" in answer.json()["detail"]


def test_user_and_password_are_asked_for_where_a_variable_says_so(monkeypatch):
    monkeypatch.delenv(AUTH, raising=False)
    assert credentials() is None
    monkeypatch.setenv(AUTH, "me:pass:word")
    assert credentials() == ("me", "pass:word")
    for wrong in ("me", "me:", ":word"):
        monkeypatch.setenv(AUTH, wrong)
        with pytest.raises(InputError, match="set it to USER:PASSWORD"):
            credentials()
