"""What is attacked: the app in a process of its own, and what it answers."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

TIMEOUT = 90  # seconds for an answer
MARKUP = '<img src=x onerror="window.hit=1">'
SENTENCE = re.compile(r"\s*\S.{3,}[.?!)]\s*", re.DOTALL)
FAULTS = re.compile(r"Traceback|not your fault|Internal Server Error|\b\w+Error[:(]|site-packages")
HTML = ("html", "markdown")  # components of Gradio that take their value for HTML


@dataclass(frozen=True)
class Attack:
    """One hostile input.

    Attributes:
        kind: what it is of.
        name: tells it from others of its kind.
        send: sends it, and returns the answer.
    """

    kind: str
    name: str
    send: Callable[["Target"], "Answer"]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP; 0 where nothing came.
        text: the body, or of an event the error or the values.
        error: whether an event ended with an error.
    """

    status: int
    text: str
    error: bool = False

    @property
    def verdict(self) -> str:
        """Return "refused" for a sentence or 4xx, "ok", or "bad"."""
        if self.status == 0 or FAULTS.search(self.text) or (self.error and MARKUP in self.text):
            return "bad"
        if 400 <= self.status < 500:
            return "refused"
        if self.error or self.status in (503, 507):
            return "refused" if SENTENCE.fullmatch(self.text) else "bad"
        return "ok" if 200 <= self.status < 400 else "bad"


@dataclass
class Target:
    """A running app.

    Attributes:
        address: where it answers.
        process: that it runs in.
        canary: a file that nobody may read.
        peak: most bytes that it had in memory at a look.
    """

    address: str
    process: psutil.Process
    canary: str
    peak: int = 0
    client: httpx.Client = field(init=False)
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.address, timeout=TIMEOUT)
        self.config = self.client.get("/config").json()
        self.components = {component["id"]: component for component in self.config["components"]}

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events that the server answers, as the page's configuration lists them."""
        return [event for event in self.config["dependencies"] if event["backend_fn"]]

    def event(self, name: str) -> dict[str, Any]:
        """Return the event of this name."""
        return next(event for event in self.events if event["api_name"] == name)

    def memory(self) -> int:
        """Return the bytes that the app has in memory."""
        used = self.process.memory_info().rss
        self.peak = max(self.peak, used)
        return used

    def request(self, method: str, path: str, **settings: Any) -> Answer:
        """Send a request as it is."""
        try:
            response = self.client.request(method, path, **settings)
        except httpx.HTTPError as error:
            return Answer(0, repr(error))
        return Answer(response.status_code, response.text[:20_000])

    def call(self, event: dict[str, Any], data: Any, session: str = "attack", **body: Any) -> Answer:
        """Call an event as the page does, at once or through the queue."""
        body = {"data": data, "fn_index": event["id"], "session_hash": session, **body}
        content = json.dumps(body)  # NaN and lone surrogates included
        headers = {"Content-Type": "application/json"}
        if not event["queue"]:
            answer = self.request("POST", "/gradio_api/run/predict", content=content, headers=headers)
            return self._judged(event, answer)
        answer = self.request("POST", "/gradio_api/queue/join", content=content, headers=headers)
        if answer.status != 200:
            return answer
        return self._judged(event, self._result(session, json.loads(answer.text)["event_id"]))

    def _result(self, session: str, event_id: str) -> Answer:
        try:
            with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
                for line in stream.iter_lines():
                    message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                    if message.get("event_id") == event_id and message["msg"] == "process_completed":
                        return Answer(200, json.dumps(message["output"]))
        except httpx.HTTPError as error:
            return Answer(0, repr(error))
        return Answer(0, "The stream ended.")

    def _judged(self, event: dict[str, Any], answer: Answer) -> Answer:
        """Return the error of an event, or an answer of which HTML was checked for what was sent."""
        if answer.status not in (200, 400, 500):
            return answer
        try:
            output = json.loads(answer.text)
        except ValueError:
            return answer  # cut off: too long for an error
        if "error" in output:
            return Answer(answer.status, str(output["error"]), error=True)
        for value, number in zip(output.get("data", []), event["outputs"], strict=False):
            component = self.components[number]
            if component["type"] in HTML and component["props"].get("html_template", "${value}") == "${value}":
                shown = value.get("value", "") if isinstance(value, dict) else value
                if MARKUP in str(shown):
                    return Answer(0, f"{component['props'].get('label')} has unescaped text: {shown}")
        return answer

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file as the page does, and return its path on the server."""
        response = self.client.post("/gradio_api/upload", files={"files": (name, content)})
        return response.raise_for_status().json()[0]

    def sent(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file, and return what names it in an event."""
        return file_data(self.upload(name, content), orig_name=name)

    def inspect(self, files: list[dict[str, Any]], adapter: str = "resnet20/metalora-tr") -> Answer:
        """Inspect images."""
        return self.call(self.event("inspect_images"), [files, adapter, ""])


def file_data(path: str, **more: Any) -> dict[str, Any]:
    """Return what the page sends for a file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@dataclass
class Outcome:
    """What an attack came to."""

    attack: Attack
    answer: Answer
    seconds: float


def attack_all(target: Target, attacks: list[Attack]) -> list[Outcome]:
    """Send all attacks, one by one, while the memory of the target is looked at."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            target.memory()

    watching = threading.Thread(target=look)
    watching.start()
    outcomes = []
    try:
        for attack in attacks:
            begun = time.monotonic()
            try:
                answer = attack.send(target)
            except httpx.HTTPStatusError as error:  # of an upload that is refused
                answer = Answer(error.response.status_code, error.response.text)
            outcomes.append(Outcome(attack, answer, time.monotonic() - begun))
    finally:
        over.set()
        watching.join()
    return outcomes


def tracebacks(log: Path) -> int:
    """Return how many tracebacks are in the log of the app."""
    return log.read_text(encoding="utf-8", errors="replace").count("Traceback (most recent call last)")
