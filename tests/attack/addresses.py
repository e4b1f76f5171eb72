"""Hostile requests below the events: addresses, bodies, headers, uploads."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

from attack.target import MARKUP, Answer, Attack, Target, file_data

API = "/gradio_api"
PATHS = [
    "/etc/passwd",
    "..%2f..%2fetc/passwd",
    "../../etc/passwd",
    "....//....//etc/passwd",
    "%2fetc%2fpasswd",
    "pyproject.toml",
    "app.py",
    "file:///etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "\\\\host\\share",
    "/tmp",
    ".",
    "%00",
    "a" * 5000,
]
WEB = [
    "http://127.0.0.1:9/x",
    "https://localhost/",
    "HTTP://127.0.0.1:9",
    "ftp://127.0.0.1:9/x",
    "http://169.254.169.254/latest",
]
OTHERS = [
    "/static/..%2f..%2f..%2fetc/passwd",
    "/assets/../../../etc/passwd",
    "/svelte/..%2f..%2fx",
    "/login",
    "/monitoring/x",
    "/pwa_icon/100000",
    "/config?deep_link=../../etc",
    f"/?__theme={MARKUP}",
    "/runs/..%2f..%2fetc",
    "/runs/" + "a" * 3000,
    "/run-state?run=%00",
    f"{API}/dev/reload",
    f"{API}/proxy=http://127.0.0.1:9/",
    f"{API}/proxy=https://x.hf.space/",
    f"{API}/component_server",
    f"{API}/custom_component/a/client/../../x",
    f"{API}/vibe-code",
    f"{API}/deep_link?session_hash=a",
    f"{API}/stream/a/b/1/playlist-file",
    f"{API}/call/compare/nonesuch",
    f"{API}/queue/data?session_hash=nonesuch",
    f"{API}/queue/data",
    f"{API}/call/..%2f..",
    f"{API}/run-history/records",
    f"{API}/mcp/http",
]
BODIES: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b'{"data": [',
    "a list": b"[]",
    "deep": b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}",
    "very deep": b"[" * 100_000,
    "a long number": b'{"data": [' + b"9" * 5000 + b"]}",
    "10 MB": b'{"data": ["' + b"x" * 10_000_000 + b'"]}',
    "gzip": gzip.compress(b'{"data": ["digits-default"]}'),
    "no UTF-8": b'{"data": ["\xff\xfe"]}',
    "a text as data": b'{"data": "x"}',
    "batched": b'{"data": [["digits-default"]], "batched": true}',
    "a session that is a path": b'{"data": ["digits-default"], "session_hash": "../../x"}',
    "a long session": json.dumps({"data": ["digits-default"], "session_hash": "x" * 100_000}).encode(),
    "a session that is a list": b'{"data": ["digits-default"], "session_hash": ["x"]}',
    "an unknown event": b'{"data": [], "fn_index": 100000}',
    "a negative event": b'{"data": [], "fn_index": -1}',
    "a huge event": b'{"data": [], "fn_index": 1000000000000000000000000000000}',
    "an event that is a text": b'{"data": [], "fn_index": "0"}',
    "a key twice": b'{"data": [1], "data": [2], "fn_index": null}',
}
HEADERS = {
    "a range of three": {"Range": "bytes=1-2-3"},
    "a range that runs back": {"Range": "bytes=9-2"},
    "a range of letters": {"Range": "bytes=a-b"},
    "a strange host": {"Host": "evil.example"},
    "a forwarded host": {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "javascript"},
    "a forwarded address": {"X-Forwarded-For": ", ,999.1.1.1," * 50},
    "a visitor": {"X-Visitor": "../../x"},
}


def addresses(target: Target) -> Iterator[Attack]:
    """Yield requests for files that are not for visitors, and for addresses that the app does not use."""
    paths = [f"{API}/file={path}" for path in (*PATHS, *WEB, target.canary)] + [
        f"{API}/file/{path}" for path in PATHS[:4]
    ]
    for path in (*paths, *OTHERS):
        yield Attack("addresses", path[:60], lambda target, path=path: target.request("GET", path))
    for path in (
        "process_recording",
        "component_server",
        "vibe-edit",
        "stream/x",
        "upload",
        "queue/join",
        "cancel",
        "x",
    ):
        yield Attack("addresses", f"POST {path}", lambda target, path=path: _post(target, path, b"{}"))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        yield Attack("addresses", method, lambda target, method=method: target.request(method, f"{API}/run/compare"))


def bodies(target: Target) -> Iterator[Attack]:
    """Yield requests whose body cannot be read."""
    for name, body in BODIES.items():
        for path in ("run/predict", "call/compare", "queue/join") if b"fn_index" in body else ("run/compare", "cancel"):
            yield Attack(
                "bodies", f"{path} with {name}", lambda target, path=path, body=body: _post(target, path, body)
            )
    for path in ("call/nonesuch", "call/v2/nonesuch", "call/v2/compare", "run/nonesuch", "api/nonesuch"):
        body = json.dumps({"data": [], "unknown": 1}).encode()
        yield Attack(
            "bodies", f"{path} with an unknown name", lambda target, path=path, body=body: _post(target, path, body)
        )


def headers(target: Target) -> Iterator[Attack]:
    """Yield requests with headers that nobody sends."""
    for name, values in HEADERS.items():
        for path in ("/", f"{API}/info", f"{API}/file={target.canary}"):
            yield Attack(
                "headers",
                f"{name} to {path}",
                lambda target, path=path, values=values: target.request("GET", path, headers=values),
            )


def uploads(target: Target) -> Iterator[Attack]:
    """Yield uploads with names and bodies that no browser sends, and files that were never uploaded."""
    for name in ("..", "../../x.png", "a\0b.png", "x" * 4000 + ".png", MARKUP, "\u202egnp.exe", "CON", ".", "a\nb.png"):
        yield Attack(
            "uploads", f"named {name[:20]!r}", lambda target, name=name: _upload(target, {"files": (name, b"x")})
        )
    yield Attack(
        "uploads",
        "of a text",
        lambda target: target.request("POST", f"{API}/upload", data={"files": "x"}, files={"y": b"y"}),
    )
    yield Attack("uploads", "of 1,001 files", lambda target: _upload(target, [("files", ("x", b""))] * 1001))
    yield Attack("uploads", "of 40 MB", lambda target: _upload(target, {"files": ("x", bytes(40_000_000))}))
    yield Attack(
        "uploads", "of unknown length", lambda target: target.request("POST", f"{API}/upload", content=iter([b"x"]))
    )
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    yield Attack(
        "uploads",
        "cut off",
        lambda target: target.request("POST", f"{API}/upload", content=b"--x\r\n", headers=boundary),
    )
    for path in (*PATHS, *WEB, target.canary):
        yield Attack(
            "forged files",
            f"inspected {path[:40]}",
            lambda target, path=path: target.inspect([file_data(path, url=path)]),
        )
    for more in (
        {"is_stream": True},
        {"meta": None},
        {"path": None},
        {"path": 3},
        {"path": ["/etc/passwd"]},
        {"url": WEB[0]},
    ):
        yield Attack(
            "forged files",
            f"with {more}",
            lambda target, more=more: target.inspect([{**file_data(target.canary), **more}]),
        )
    yield Attack("forged files", "all that was uploaded", _whole_folder)
    for event in target.events:
        places = [i for i, number in enumerate(event["inputs"]) if target.components[number]["type"] == "state"]
        if not places and event["inputs"] and event["api_visibility"] == "private":
            data = [{"deep": [file_data(WEB[0], url=WEB[0])]}] * len(event["inputs"])
            yield Attack(
                "forged files",
                f"below {event['api_name']}",
                lambda target, event=event, data=data: target.call(event, data),
            )


def _whole_folder(target: Target) -> Answer:
    folder = target.upload("x.png", b"x").rsplit("/", 2)[0]
    return target.inspect([file_data(folder)])


def _post(target: Target, path: str, body: bytes) -> Answer:
    return target.request("POST", f"{API}/{path}", content=body, headers={"Content-Type": "application/json"})


def _upload(target: Target, files: Any) -> Answer:
    return target.request("POST", f"{API}/upload", files=files)
