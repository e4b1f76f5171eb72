"""What stands before Gradio: headers of every response, requests that are not for this app, room for uploads.

What a person causes is answered with a sentence: also where Gradio's queue is full, and where it would break off.
"""

import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from metalora.runs.app_process import TEMPORARY
from metalora.runs.pruning import disk_usage
from metalora.runs.visitor_limits import server_limits

from .checked_blocks import PLEASE_CHECK
from .request_checks import EVENT, OF_MCP, UNREADABLE, Receive, Refused, below_api, check_address, read_body
from .security import security_headers

SECONDS = 2.0  # that a look at the temporary folder holds
RETRY = 5  # seconds
FULL = "The app has no room for files at the moment: try again in an hour."
BUSY = f"The app is busy, its queue is full: try again in {RETRY} seconds."

Send = Callable[[Any], Awaitable[None]]


class Gate:
    """Adds the headers, and answers in place of Gradio what is not for it.

    Args:
        app: what it stands before.
        fns: the app's events, by number.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], fns: Mapping[int, Any]):
        self.app, self.fns, self.headers = app, fns, security_headers()
        self.max_bytes = server_limits().temporary_gb * 10**9
        self._lock, self._used, self._looked = threading.Lock(), 0, -SECONDS

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(scope, send, self.headers)
        try:
            receive = await self._admit(scope, receive)
            if (below_api(scope["path"]) or "").startswith("mcp"):
                scope = {**scope, "headers": [*scope["headers"], (OF_MCP.encode(), b"1")]}
            await self.app(scope, receive, answer.send)
        except Refused as refused:
            await answer.refuse(refused)
        except TypeError:  # of Gradio's, for arguments by name that are not there, and texts in place of files
            if answer.started or not scope["path"].partition("/gradio_api/")[2].startswith(("call/v2/", "upload")):
                raise
            await answer.refuse(Refused(400, UNREADABLE))
        except RuntimeError as error:  # Gradio says in the stream of a session that it has gone, and then raises
            if not answer.started or getattr(error.__cause__, "status_code", None) != 404:
                raise
            await send({"type": "http.response.body", "body": b""})

    async def _admit(self, scope: dict[str, Any], receive: Receive) -> Receive:
        """Return how the body of a request is received.

        Raises:
            Refused: it is not passed on.
        """
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        check_address(method, path, headers)
        rest = below_api(path)
        if method != "POST" or rest is None:
            return receive
        if EVENT.fullmatch(rest) or rest.startswith("mcp"):
            return await read_body(receive, path, self.fns)
        length = int(headers["content-length"])
        if rest.startswith("upload") and self.max_bytes and self._temporary_bytes(length) > self.max_bytes:
            raise Refused(507, FULL)
        return receive

    def _temporary_bytes(self, more: int) -> int:
        """Return the bytes of temporary files, with those that are being sent since the last look."""
        with self._lock:
            if time.monotonic() - self._looked > SECONDS:
                self._used, self._looked = disk_usage(Path(os.environ[TEMPORARY])), time.monotonic()
            self._used += more
            return self._used


class _Answer:
    """The answer to one request, on its way out.

    Attributes:
        started: whether its first part was sent.
    """

    def __init__(self, scope: dict[str, Any], send: Send, headers: Mapping[str, str]):
        event = EVENT.fullmatch(below_api(scope["path"]) or "") if scope["method"] == "POST" else None
        self._scope, self._send, self._headers, self._is_event = scope, send, headers, event is not None
        self._held: Any = None  # the start of an answer whose status depends on its body
        self._over = self.started = False

    async def send(self, message: Any) -> None:
        """Send a part of what the app answers, with the headers; in place of some answers another one."""
        if self._over:  # what Gradio says of its queue is left out
            return
        if message["type"] == "http.response.start":
            if self._is_event and message["status"] == 503:
                await self.refuse(Refused(503, BUSY), {"Retry-After": str(RETRY)})
                return
            if self._is_event and message["status"] == 500:
                self._held = message
                return
        elif self._held is not None:
            held, self._held = self._held, None
            if _says_what_to_check(message.get("body", b"")):
                held["status"] = 400
            await self._pass(held)
        await self._pass(message)

    async def refuse(self, refused: Refused, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a sentence, and with nothing else."""
        response = JSONResponse({"detail": refused.detail}, refused.status, headers)
        await response(self._scope, _nothing, self._pass)
        self._over = True

    async def _pass(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


def _says_what_to_check(body: bytes) -> bool:
    """Return whether the error of an event, which Gradio answers as a fault of the server, is one of the caller."""
    try:
        return bool(json.loads(body).get("title") == PLEASE_CHECK)
    except (ValueError, AttributeError):
        return False


async def _nothing() -> Any:
    return {"type": "http.disconnect"}
