"""What stands before Gradio: headers, which requests are passed on, room for uploads; and who may come in."""

import json
import os
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from metalora.runs.app_process import TEMPORARY
from metalora.util.errors import InputError
from pages.gate import Gate
from pages.request_checks import LARGE, MAX_EVENT, MAX_UPLOAD, NO_EVENT, NOTHING, SESSIONS, UNREADABLE
from pages.security import AUTH, credentials, security_headers
from pages.waiting import open_waiting_page

FNS = {0: SimpleNamespace(fn=len, api_name="count"), 1: SimpleNamespace(fn=None, api_name="of_the_browser")}
JOIN = {"data": [], "fn_index": 0, "session_hash": "mine"}
NAMES = {"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Permissions-Policy"}


def behind_the_gate():
    """A client of an app with a few of Gradio's addresses, which answer what Gradio does."""

    def full(request):
        return JSONResponse({"detail": "Queue is full. Max size is 16 and size is 16."}, 503)

    def take(request):
        return PlainTextResponse("kept", headers={"Referrer-Policy": "origin"})

    async def run(request):
        values = await request.json()
        title = "Please check" if values["data"] else "Failed"
        return JSONResponse({"error": "A sentence.", "title": title}, 500)

    def misread(request):
        raise TypeError("File is not an instance")

    async def gone(request):
        async def stream():
            yield b"data: gone"
            raise HTTPException(404)

        return StreamingResponse(stream())

    routes = [
        Route("/gradio_api/queue/join", full, methods=["POST"]),
        Route("/gradio_api/queue/data", gone),
        Route("/gradio_api/run/{name}", run, methods=["POST"]),
        Route("/gradio_api/call/v2/{name}", misread, methods=["POST"]),
        Route("/gradio_api/upload", take, methods=["POST"]),
        Route("/gradio_api/file={path:path}", take),
        Route("/gradio_api/process_recording", take, methods=["POST"]),
    ]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Gate, FNS)]))


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The same with 1 GB of temporary files."""
    monkeypatch.setenv(TEMPORARY, str(tmp_path))
    monkeypatch.setenv("METALORA_MAX_TEMPORARY_GB", "1")
    return behind_the_gate()


def test_every_response_has_the_headers(client):
    posts = client.post("/gradio_api/queue/join", json=JOIN), client.post("/gradio_api/upload")
    for answer in (client.get("/nowhere"), *posts):
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
    answer = client.post("/gradio_api/queue/join", json=JOIN)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert answer.json() == {"detail": "The app is busy, its queue is full: try again in 5 seconds."}


def test_uploads_are_bounded_one_by_one_and_together(client, tmp_path):
    assert client.post("/gradio_api/upload", content=b"x").text == "kept"
    answer = client.post("/gradio_api/upload", content=iter([b"x"]))  # of unknown length
    assert answer.status_code == 413 and "says how long it is" in answer.json()["detail"]
    answer = client.post("/gradio_api/upload", headers={"Content-Length": str(MAX_UPLOAD + 1)})
    assert answer.status_code == 413
    with (tmp_path / "large").open("wb") as file:
        os.truncate(file.fileno(), 10**9)
    answer = behind_the_gate().post("/gradio_api/upload", content=b"x")  # which looks anew
    assert answer.status_code == 507 and "no room for files" in answer.json()["detail"]


DEEP = "[" * 60 + "]" * 60


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("", 400, UNREADABLE),
        ("[]", 400, UNREADABLE),
        ('{"data": ', 400, UNREADABLE),
        ("[" * 100_000, 400, UNREADABLE),
        (f'{{"data": {DEEP}}}', 400, UNREADABLE),
        ('{"data": [[1]], "batched": true}', 400, UNREADABLE),
        ('{"data": [], "session_hash": "../x"}', 400, SESSIONS),
        (json.dumps({"data": [], "session_hash": "x" * 65}), 400, SESSIONS),
        ('{"data": [], "fn_index": 7}', 404, NO_EVENT),
        ('{"data": [], "fn_index": -1}', 404, NO_EVENT),
        ('{"data": [], "fn_index": 1}', 404, NO_EVENT),
        ('{"data": []}', 404, NO_EVENT),
        (json.dumps({"data": ["x" * MAX_EVENT]}), 413, LARGE),
    ],
)
def test_a_body_that_cannot_be_read_is_a_sentence_and_goes_no_further(client, body, status, said):
    answer = client.post("/gradio_api/run/predict", content=body)
    assert (answer.status_code, answer.json()) == (status, {"detail": said})


def test_what_is_passed_on_arrives_as_it_was_sent(client):
    answer = client.post("/gradio_api/run/count", json={"data": [1], "session_hash": "mine"})
    assert (answer.status_code, answer.json()["error"]) == (400, "A sentence.")  # of the caller
    assert client.post("/gradio_api/run/predict", json={"data": [], "fn_index": 0}).status_code == 500  # of the app


@pytest.mark.parametrize(
    "path", ["process_recording", "component_server", "vibe-edit", "file=http://x.org/a", "file=FTP:a", "proxy=a", "x"]
)
def test_addresses_that_the_app_does_not_use_are_not_answered(client, path):
    for answer in (client.get(f"/gradio_api/{path}"), client.post(f"/gradio_api/{path}", content=b"x")):
        assert (answer.status_code, answer.json()) == (404, {"detail": NOTHING})


def test_a_file_is_asked_for_by_its_path_and_a_range_that_exists(client):
    assert client.get("/gradio_api/file=/tmp/a.png", headers={"Range": "bytes=0-"}).text == "kept"
    assert client.get("/gradio_api/file=C:/a.png").text == "kept"
    for wrong in ("bytes=1-2-3", "bytes=5-2", "lines=1", "bytes=-"):
        assert client.get("/gradio_api/file=/tmp/a.png", headers={"Range": wrong}).status_code == 416


def test_what_gradio_would_break_off_ends_in_order(client):
    answer = client.post("/gradio_api/call/v2/count", json={"unknown": 1})
    assert (answer.status_code, answer.json()) == (400, {"detail": UNREADABLE})
    assert client.get("/gradio_api/queue/data?session_hash=gone").text == "data: gone"


def test_user_and_password_are_asked_for_where_a_variable_says_so(monkeypatch):
    monkeypatch.delenv(AUTH, raising=False)
    assert credentials() is None
    monkeypatch.setenv(AUTH, "me:pass:word")
    assert credentials() == ("me", "pass:word")
    for wrong in ("me", "me:", ":word"):
        monkeypatch.setenv(AUTH, wrong)
        with pytest.raises(InputError, match="set it to USER:PASSWORD"):
            credentials()
