"""Scripts and styles are compressed once, whoever asks; all else goes to the app."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pages.compressed_files import FOREVER, PLOTLY, CompressedFiles

SCRIPT = "const answer = 42;\n" * 1000
PATH = "/assets/index-B2UWl2D9.js"


@pytest.fixture
def asked():
    """Paths that reached the app."""
    return []


@pytest.fixture
def client(asked):
    def answer(request):
        asked.append(request.url.path)
        if "missing" in request.url.path:
            return PlainTextResponse("There is none.", 404)
        return PlainTextResponse(SCRIPT, headers={"etag": "one"})

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(CompressedFiles)]))


@pytest.mark.parametrize("path", [PATH, "/assets/Index-3FqI08xq.css", PLOTLY])
def test_a_file_is_compressed_once(client, asked, path):
    answers = [client.get(path, headers={"accept-encoding": "gzip, br"}) for _ in range(3)]
    assert asked == [path]
    for answer in answers:
        assert answer.text == SCRIPT and answer.headers["content-encoding"] == "br"
        assert answer.headers["etag"] == "one" and "Accept-Encoding" in answer.headers["vary"]
        assert int(answer.headers["content-length"]) < len(SCRIPT) / 10


def test_what_is_named_by_its_content_is_kept_by_browsers(client):
    headers = {"accept-encoding": "br"}
    assert client.get(PATH, headers=headers).headers["cache-control"] == FOREVER
    assert "cache-control" not in client.get(PLOTLY, headers=headers).headers


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, {"accept-encoding": "gzip"}),
        (PATH, {"accept-encoding": "br", "if-none-match": "one"}),
        (PATH, {"accept-encoding": "br", "range": "bytes=0-9"}),
        ("/assets/photo.png", {"accept-encoding": "br"}),
        ("/gradio_api/file=/home/assets/mine.js", {"accept-encoding": "br"}),
        ("/config", {"accept-encoding": "br"}),
    ],
)
def test_all_else_is_asked_of_the_app_each_time(client, asked, path, headers):
    for _ in range(2):
        answer = client.get(path, headers=headers)
        assert answer.text == SCRIPT and "content-encoding" not in answer.headers
    assert asked == [path, path]


def test_other_methods_reach_the_app(client, asked):
    client.get(PATH, headers={"accept-encoding": "br"})
    client.post(PATH, headers={"accept-encoding": "br"})
    assert len(asked) == 2


def test_a_file_that_is_not_there_is_asked_for_again(client, asked):
    for _ in range(2):
        assert client.get("/assets/missing.js", headers={"accept-encoding": "br"}).status_code == 404
    assert len(asked) == 2
