"""Weights of timm's backbones, fetched from a small hub of our own."""

import hashlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir

from metalora.models import timm_weights
from metalora.models.timm_weights import FILE, cached_backbones, fetch_weights, weights_size
from metalora.util.errors import InputError

CONTENT = bytes(range(256)) * 4096
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Has the weights of one backbone."""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        if not self.path.endswith(f"/timm/resnet18.a1_in1k/resolve/main/{FILE}"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if body:
            self.wfile.write(CONTENT)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    cache = tmp_path / "hub"
    monkeypatch.setattr(timm_weights, "hf_hub_download", partial(hf_hub_download, endpoint=address, cache_dir=cache))
    monkeypatch.setattr(timm_weights, "scan_cache_dir", partial(scan_cache_dir, cache))
    yield
    server.shutdown()
    server.server_close()


def test_weights_are_sized_fetched_and_listed(hub):
    assert cached_backbones() == ()
    assert weights_size("resnet18.a1_in1k") == len(CONTENT)
    assert cached_backbones() == ()  # asking fetches nothing
    steps = list(fetch_weights("resnet18.a1_in1k"))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert all(0 <= done <= total == len(CONTENT) for done, total in steps)
    assert cached_backbones() == ("resnet18.a1_in1k",)


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet18", "could not be fetched"), ("resnet999", "no trained weights"), ("../resnet18", "no trained weights")],
)
def test_what_cannot_be_fetched_is_said(hub, name, words):
    name = "resnet34.a1_in1k" if words.startswith("could") else name
    with pytest.raises(InputError, match=words):
        list(fetch_weights(name))


def test_a_hub_that_does_not_answer_is_said(monkeypatch):
    def refuse(*words, **settings):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm_weights, "hf_hub_download", refuse)
    with pytest.raises(InputError, match="check the connection"):
        weights_size("resnet18.a1_in1k")
