"""Gradio's scripts and styles, compressed once instead of for every visitor.

Opening the page asks for 126 of them: compressing them anew takes a third of a second of a core each time.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import brotli
from starlette.datastructures import Headers, MutableHeaders

from .plot import PLOTLY_JS
from .request_checks import Receive

HASHED = "/assets/"  # names there end in a hash of the content
PLOTLY = f"/gradio_api/file={PLOTLY_JS}"
SUFFIXES = (".js", ".css")
QUALITY = 6  # of 11, of which the last ones are slow
FOREVER = "public, max-age=31536000, immutable"

Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class _File:
    """The answer to a request: its first message, and the whole body."""

    start: dict[str, Any]
    body: bytes


class CompressedFiles:
    """Keeps what `app` answers for scripts and styles, compressed.

    Args:
        app: what it stands before; only files that it has are kept.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app
        self._files: dict[str, _File] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not _is_static(scope):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path not in self._files:
            found = await self._ask(scope, receive)
            if found.start["status"] != 200:
                await _send(found, send)
                return
            self._files[path] = _compressed(path, found)
        await _send(self._files[path], send)

    async def _ask(self, scope: dict[str, Any], receive: Receive) -> _File:
        """Return the whole answer of the app."""
        messages: list[dict[str, Any]] = []

        async def collect(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, collect)
        start, *parts = messages
        return _File(start, b"".join(part.get("body", b"") for part in parts))


def _is_static(scope: dict[str, Any]) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    path, headers = scope["path"].removeprefix(scope.get("root_path", "")), Headers(scope=scope)
    known = path == PLOTLY or (path.startswith(HASHED) and path.endswith(SUFFIXES))
    # A browser that has a file already, or wants a part of it, is answered by the app.
    return known and "br" in headers.get("accept-encoding", "") and not {"if-none-match", "range"} & set(headers)


def _compressed(path: str, file: _File) -> _File:
    start = {**file.start, "headers": list(file.start["headers"])}
    headers, body = MutableHeaders(scope=start), brotli.compress(file.body, mode=brotli.MODE_TEXT, quality=QUALITY)
    headers["content-encoding"], headers["content-length"] = "br", str(len(body))
    headers.add_vary_header("Accept-Encoding")
    if path != PLOTLY:
        headers["cache-control"] = FOREVER
    return _File(start, body)


async def _send(file: _File, send: Send) -> None:
    await send({**file.start, "headers": list(file.start["headers"])})
    await send({"type": "http.response.body", "body": file.body})
