"""What stands before Gradio: headers of every response, room for uploads, and a sentence where the queue is full."""

import os
import re
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from metalora.runs.app_process import TEMPORARY
from metalora.runs.pruning import disk_usage
from metalora.runs.uploads import MB
from metalora.runs.visitor_limits import server_limits

from .security import security_headers

MAX_REQUEST = 64 * MB  # bytes of an upload, which may be several files
QUEUED = re.compile(r"/gradio_api/(queue/join|call/.+)")
UPLOAD = re.compile(r"/gradio_api/upload/?")
SECONDS = 2.0  # that a look at the temporary folder holds
RETRY = 5  # seconds
FULL = "The app has no room for files at the moment: try again in an hour."
LENGTH = f"An upload takes {MAX_REQUEST // MB} MB at most and says how long it is: send fewer files at a time."
BUSY = f"The app is busy, its queue is full: try again in {RETRY} seconds."

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Gate:
    """Adds the headers, and answers in place of Gradio where there is no room.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app, self.headers = app, security_headers()
        self.max_bytes = server_limits().temporary_gb * 10**9
        self._lock, self._used, self._looked = threading.Lock(), 0, -SECONDS

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        queued, refusal = scope["method"] == "POST" and QUEUED.search(scope["path"]), self._refusal(scope)
        over = False

        async def guarded(message: Any) -> None:
            nonlocal over
            if over:  # what Gradio says of its queue is left out
                return
            if message["type"] == "http.response.start":
                if queued and message["status"] == 503:
                    over = True
                    await JSONResponse({"detail": BUSY}, 503, self.headers | {"Retry-After": str(RETRY)})(
                        scope, receive, send
                    )
                    return
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refusal or self.app)(scope, receive, guarded)

    def _refusal(self, scope: dict[str, Any]) -> JSONResponse | None:
        """Return why an upload is not taken; None where it is, and for other requests."""
        if scope["method"] != "POST" or UPLOAD.search(scope["path"]) is None:
            return None
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdigit() or int(length) > MAX_REQUEST:
            return JSONResponse({"detail": LENGTH}, 413)
        if self.max_bytes and self._temporary_bytes(int(length)) > self.max_bytes:
            return JSONResponse({"detail": FULL}, 507)
        return None

    def _temporary_bytes(self, more: int) -> int:
        """Return the bytes of temporary files, with those that are being sent since the last look."""
        with self._lock:
            if time.monotonic() - self._looked > SECONDS:
                self._used, self._looked = disk_usage(Path(os.environ[TEMPORARY])), time.monotonic()
            self._used += more
            return self._used
