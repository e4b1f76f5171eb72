"""Which requests reach Gradio: those to addresses that the page and programs need, with a body that can be read.

Gradio has more addresses than this app uses. It fetches files of the web for whoever asks, converts recordings, calls
functions of components and keeps links. None of these is answered here, nor what a later Gradio adds.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers

from metalora.runs.uploads import MB

from .security import credentials

MAX_UPLOAD = 64 * MB  # bytes of an upload, which may be several files
MAX_EVENT = MB  # bytes of what an event is given
MAX_DEPTH = 40  # of lists and objects in each other
ANSWERED = re.compile(
    r"(info|openapi\.json|startup-events|app_id|user|token|login_check|theme\.css|queue/(join|data|status)|heartbeat/.+"
    r"|(run|api)/[^/]+|call/(v2/)?[^/]+(/[^/]+)?|cancel|reset|upload|upload_progress|file=.+|mcp(/.*)?)/?",
    re.DOTALL,
)
EVENT = re.compile(r"(queue/join|cancel|reset|(?:run|api|call|call/v2)/(?P<name>[^/]+))/?", re.DOTALL)
WEB = re.compile(r"file=[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # two letters or more: one is a drive of Windows
RANGE = re.compile(r"bytes=(\d+)-(\d*)|bytes=-\d+")
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
OF_MCP = "x-metalora-mcp"  # a header of calls of MCP: one session of Gradio's client makes those of all callers
UNREADABLE = (
    "The request cannot be read: send a value of the right kind for each input, and files as they were uploaded."
)
NOTHING = "There is nothing at this address."
LENGTH = f"An upload takes {MAX_UPLOAD // MB} MB at most and says how long it is: send fewer files at a time."
LARGE = f"The request has over {MAX_EVENT // MB} MB: upload files first, then name them."
NO_EVENT = "There is no such event: call one that /gradio_api/info lists."
SESSIONS = "The session_hash is no name of a session: use up to 64 letters, digits, - and _."

Receive = Callable[[], Awaitable[Any]]


class Refused(Exception):
    """A request is not passed on.

    Attributes:
        status: of the answer.
        detail: one sentence.
    """

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


def below_api(path: str) -> str | None:
    """Return the part of an address behind Gradio's prefix; None for the app's own addresses."""
    _, prefix, rest = path.partition("/gradio_api/")
    return rest if prefix else None


def check_address(method: str, path: str, headers: Headers) -> None:
    """Check, from what comes before its body, that a request is for this app.

    Raises:
        Refused: nothing is at its address, it asks for an address of the web, or its body is too large.
    """
    rest = below_api(path)
    if rest is None:
        return
    if ANSWERED.fullmatch(rest) is None or WEB.match(rest):
        raise Refused(404, NOTHING)
    asked = headers.get("range")
    if asked is not None and not _is_range(asked):
        raise Refused(416, "The range cannot be read: ask for bytes=FIRST-LAST.")
    if rest.startswith("mcp") and credentials() is not None:  # which knows no password
        raise Refused(401, "This app asks for a password, which MCP cannot give: use its API.")
    if method != "POST" or EVENT.fullmatch(rest):
        return
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_UPLOAD:
        raise Refused(413, LENGTH)


def _is_range(asked: str) -> bool:
    found = RANGE.fullmatch(asked.strip())
    return found is not None and (not found[1] or not found[2] or int(found[1]) <= int(found[2]))


async def read_body(receive: Receive, path: str, fns: Mapping[int, Any]) -> Receive:
    """Read and check the body of a request to an event or to MCP; return a `receive` that gives it once more.

    Args:
        receive: of the request.
        path: its address.
        fns: the app's events, by number.

    Raises:
        Refused: the body is too large, no JSON, names a session or event that cannot be, or a file of the server.
    """
    event = EVENT.fullmatch(below_api(path) or "")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # the caller has gone
            break
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > (MAX_EVENT if event else MAX_UPLOAD):
            raise Refused(413, LARGE)
    body = b"".join(parts)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, UNREADABLE) from None
    if _deeper_than(values, MAX_DEPTH) or not _is_text(values):
        raise Refused(400, UNREADABLE)
    if event:
        _check_event(values, event["name"], fns)
    elif names_file(values):  # MCP gives a program on the server the path, which reads whatever lies there
        raise Refused(400, UNREADABLE)
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_text(values: Any) -> bool:
    """Return whether all texts are Unicode, which halves of letters are not."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def names_file(value: Any) -> bool:
    """Return whether there is something in a value that Gradio takes for a file."""
    if isinstance(value, dict):
        return ("path" in value and "meta" in value) or any(map(names_file, value.values()))
    return isinstance(value, list) and any(map(names_file, value))


def _check_event(values: Any, name: str | None, fns: Mapping[int, Any]) -> None:
    if not isinstance(values, dict):
        raise Refused(400, UNREADABLE)
    session, number = values.get("session_hash"), values.get("fn_index")
    if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):
        raise Refused(400, SESSIONS)
    if values.get("batched"):
        raise Refused(400, UNREADABLE)
    callable_fns = {index: fn for index, fn in fns.items() if fn.fn is not None}  # others are the browser's own
    if number is not None and (not isinstance(number, int) or number not in callable_fns):
        raise Refused(404, NO_EVENT)
    if name and number is None and name not in {fn.api_name for fn in callable_fns.values()}:
        raise Refused(404, NO_EVENT)


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True
