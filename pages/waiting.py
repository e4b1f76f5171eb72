"""A page at the app's address while the app itself still starts: the first example, from a file.

Uses the standard library alone, since importing torch and gradio is what the visitor waits for.
"""

import importlib.util
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from metalora.util.paths import ASSETS
from metalora.views.first_look import read_first_look

from .security import security_headers

FIRST_PORT, PORTS = 7860, 100  # that Gradio tries
PAGE = Path(__file__).with_name("waiting.html")


class WaitingPage:
    """Answers at an address from now until it is closed.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, host: str, ports: range):
        """Listen on the first port that is free.

        Raises:
            OSError: none is, or there is no such host.
        """
        self._server = _listen(host, ports)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Leave the address to the app."""
        self._server.shutdown()
        self._server.server_close()


def open_waiting_page(settings: dict[str, Any]) -> WaitingPage | None:
    """Open the page where Gradio's `launch` would answer with these settings; None where it cannot be.

    None on a Space as well, whose visitors come long after the start.
    """
    if os.environ.get("SPACE_ID"):
        return None
    host = settings.get("server_name") or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = settings.get("server_port") or os.environ.get("GRADIO_SERVER_PORT")
    try:
        return WaitingPage(host, range(int(port), int(port) + 1) if port else range(FIRST_PORT, FIRST_PORT + PORTS))
    except (OSError, ValueError):
        return None  # Gradio says what is wrong with host and port


def _listen(host: str, ports: range) -> ThreadingHTTPServer:
    for port in ports[:-1]:
        try:
            return ThreadingHTTPServer((host, port), _Handler)
        except OSError:
            continue  # somebody else's
    return ThreadingHTTPServer((host, ports[-1]), _Handler)


def _page() -> str:
    look = read_first_look()
    figures = json.dumps({name: look[name] for name in ("fingerprint", "plane")}).replace("<", "\\u003c")
    page = PAGE.read_text(encoding="utf-8")
    for name, part in {"figures": figures, "image": look["image"], "table": look["table"]}.items():
        page = page.replace(f"<!-- {name} -->", part)
    return page


def _plotly() -> bytes:
    package = importlib.util.find_spec("plotly")
    assert package is not None and package.origin is not None
    return (Path(package.origin).parent / "package_data" / "plotly.min.js").read_bytes()


FILES = {
    "/": ("text/html; charset=utf-8", lambda: _page().encode()),
    "/style.css": ("text/css; charset=utf-8", lambda: (ASSETS / "style.css").read_bytes()),
    "/plotly.js": ("text/javascript; charset=utf-8", _plotly),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind, read = FILES.get(path, ("text/plain", lambda: b"The app is starting."))
        content = read()
        self._head(200 if path in FILES else 503, kind, len(content))
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._head(200, "text/html", 0)

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": length, "Cache-Control": "no-store", "X-Starting": "yes"}
        for name, value in (headers | security_headers()).items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing to the terminal."""
