"""Many visitors at once, while a run trains: how long they wait, what fails, how much memory the app takes.

    python tests/load.py --visitors 50 --minutes 10

starts the app, records in a browser what one page asks of it, lets visitors repeat that, and prints a JSON row for each
figure; METALORA_FIGURES=FILE keeps them (figures.py). It needs Chromium; the times mean something on a machine that has
nothing else to do.

They arrive in the course of the first two minutes (of a quarter of the time, where that is less). A visitor comes with
an empty cache, so they load every file of the page, which then fills all of its tabs. After that
it asks every two seconds how the run is doing. Every 20 to 30 seconds they do one thing: half of the time they look at
a photograph that nobody has sent before, else they turn a knob or put another question to Compare. After two to six
minutes they leave, and another comes. Everyone asks about the one run that trains; the first of them owns it, so their
page also draws its curves whenever it has moved. A visitor's events follow one another, where a browser has a few of
them under way.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from conftest import serve
from figures import record as keep_figures
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from metalora.util.processes import NICE
from pages.core_swap import FORGOTTEN

os.environ.pop(NICE, None)  # which conftest sets: a training yields to visitors here, as it does for people

EXAMPLES = sorted((Path(__file__).parents[1] / "assets" / "examples").glob("*.png"))
THINK, STAY, ASK, ARRIVE = (20, 30), (120, 360), 2, 120  # seconds
PATIENCE = 60  # seconds that a visitor waits for an answer
RUN = {"method": "metalora-tr", "rank": 3, "suite": "digits", "steps": 100_000, "batch_size": 64}
ACTIONS = {"photograph": 2, "knob": 1, "compare": 1}  # how often
KNOB = "3.25"  # as nothing else in an event
TOKEN, FILE = "{visitor}", "{file}"  # what differs between visitors
Events = list[tuple[str, str]]  # names and bodies


class Failed(Exception):
    """The app did not answer as it should."""


@dataclass
class Figures:
    """What was measured: seconds and errors by kind of request."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter = field(default_factory=Counter)
    reasons: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def time(self, what: str) -> Iterator[Callable[[], None]]:
        """Count a block and its seconds, until it calls what this yields or ends; or its error."""
        started, answered = time.monotonic(), []
        try:
            yield lambda: answered.append(time.monotonic())
        except (httpx.HTTPError, Failed) as error:
            self.errors[what] += 1
            self.reasons.add(f"{what}: {type(error).__name__} {error}")
        self.seconds[what].append((answered or [time.monotonic()])[0] - started)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each kind of request."""
        rows = []
        for what, values in sorted(self.seconds.items()):
            p50, p95 = np.percentile(values, [50, 95]).round(3).tolist()
            times = {"p50_s": p50, "p95_s": p95, "max_s": round(max(values), 3)}
            rows.append({"what": what, "count": len(values), **times, "errors": self.errors[what]})
        return rows


@dataclass(frozen=True)
class Recorded:
    """What a page asks: files when it opens, events by action; names and places of all events."""

    files: list[str]
    actions: dict[str, Events]
    numbers: dict[str, int]
    queued: dict[str, bool]


def record(address: str) -> Recorded:
    """Open the page in a browser, do everything once, and note what it asks."""
    events = httpx.get(f"{address}/config").json()["dependencies"]
    names = {event["id"]: event["api_name"] for event in events}
    files: dict[str, None] = {}
    posts: list[dict[str, Any]] = []
    actions: dict[str, Events] = {}

    def note(request: Any) -> None:
        path = request.url.removeprefix(address)
        if path.split("?")[0].endswith(("queue/join", "run/predict")):
            posts.append(request.post_data_json)
        elif request.method == "GET" and not path.startswith(("/gradio_api/heart", "/gradio_api/queue", "/run-state")):
            files[path] = None

    def finish(page: Page, action: str) -> None:
        count = -1
        while count != len(posts):
            count = len(posts)
            page.wait_for_timeout(4000)
        actions[action] = [(names[post["fn_index"]], json.dumps(post)) for post in posts]
        posts.clear()

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("request", note)
        page.goto(address)
        expect(page.get_by_text("5 images, a core for each")).to_be_visible(timeout=1000 * PATIENCE)
        finish(page, "open")
        opened = list(files)
        page.get_by_label("number input for Blur, %").fill(KNOB)
        page.get_by_label("number input for Blur, %").press("Enter")
        finish(page, "knob")
        page.locator("input[type=file][multiple]").set_input_files(EXAMPLES[0])
        expect(page.get_by_text("1 image, a core for each")).to_be_visible(timeout=1000 * PATIENCE)
        finish(page, "photograph")
        page.get_by_role("tab", name="Compare", exact=True).click()
        page.get_by_label("Question", exact=True).click()
        page.get_by_role("option").nth(1).click()
        finish(page, "compare")
        browser.close()
    token = next(json.loads(body)["data"][0] for name, body in actions["open"] if name == "update_run")
    (sent,) = next(json.loads(body)["data"][2] for name, body in actions["photograph"] if name == "inspect")
    for action, found in actions.items():
        actions[action] = [(n, body.replace(token, TOKEN).replace(sent["path"], FILE)) for n, body in found]
    queued = {event["api_name"]: event["queue"] for event in events}
    return Recorded(opened, actions, {name: number for number, name in names.items()}, queued)


class Visitor:
    """One page, from its opening until it is closed."""

    def __init__(self, address: str, recorded: Recorded, figures: Figures, run: str, owner: str, follows: bool):
        self.recorded, self.figures, self.run, self.owner, self.follows = recorded, figures, run, owner, follows
        self.token = owner if follows else secrets.token_urlsafe(24)
        self.session = secrets.token_hex(6)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=6)
        self.client = httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits)

    async def stay(self, seconds: float) -> None:
        """Visit the app."""
        async with self.client:
            beside = [asyncio.create_task(self._beat())]
            await self._open()
            beside.append(asyncio.create_task(self._follow()))
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                await asyncio.sleep(min(left, random.uniform(*THINK)))
                (action,) = random.choices(list(ACTIONS), list(ACTIONS.values()))
                await self._act(action)
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _open(self) -> None:
        with self.figures.time("page"):
            first, *others = self.recorded.files
            await self._get(first)
            waiting = iter(others)
            await asyncio.gather(*(self._get_all(waiting) for _ in range(6)))  # as many as browsers do at once
        await self._act("open")

    async def _get_all(self, paths: Iterator[str]) -> None:
        for path in paths:
            await self._get(path)

    async def _get(self, path: str) -> httpx.Response:
        response = await self.client.get(path, headers={"X-Visitor": self.owner})
        if response.status_code != 200:
            raise Failed(f"{response.status_code} {path}")
        return response

    async def _beat(self) -> None:
        """Keep the session alive, as the page does."""
        async with self.client.stream("GET", f"/gradio_api/heartbeat/{self.session}", timeout=None) as beats:
            async for _ in beats.aiter_lines():
                pass

    async def _follow(self) -> None:
        """Ask how the run is doing."""
        moved = ""
        while True:
            await asyncio.sleep(ASK)
            now = moved
            with self.figures.time("status"):
                now = (await self._get(f"/run-state?run={self.run}")).text
            if self.follows and now != moved:
                moved = now
                with self.figures.time("run panel"):
                    await self._event("update_run", json.dumps({"data": [self.token, self.run, 0]}))
                    await self._event("show", json.dumps({"data": [self.token, self.run]}))

    async def _act(self, action: str) -> None:
        """Repeat what the page asks when a person does something."""
        file = await self._upload() if action == "photograph" else ""
        knob = f"{random.uniform(0, 9):.2f}"
        for name, body in self.recorded.actions[action]:
            body = body.replace(TOKEN, self.token).replace(FILE, file).replace(KNOB, knob)
            kind = name.partition("_")[0]
            with self.figures.time(kind if kind in ("inspect", "turn") else "other events") as answered:
                answer = await self._event(name, body, answered)
                if FORGOTTEN in answer or (name == "inspect" and "a core for each" not in answer):
                    raise Failed(f"{action}: {name} answers {answer[:200]}")

    async def _upload(self) -> str:
        """Send a photograph like no other; return its path."""
        pixels = np.asarray(Image.open(random.choice(EXAMPLES)).convert("RGB"))
        file = io.BytesIO()
        noise = np.random.default_rng().integers(0, 8, pixels.shape, dtype=np.uint8)
        Image.fromarray(np.minimum(pixels, 247) + noise).save(file, "PNG")
        with self.figures.time("upload"):
            response = await self.client.post("/gradio_api/upload", files={"files": ("mine.png", file.getvalue())})
            return response.raise_for_status().json()[0]
        return ""

    async def _event(self, name: str, body: str, answered: Callable[[], None] = lambda: None) -> str:
        """Let the app handle an event; return what it answers, once it has ended the stream as it does for a page."""
        event = {**json.loads(body), "fn_index": self.recorded.numbers[name], "session_hash": self.session}
        if not self.recorded.queued[name]:
            response = await self.client.post("/gradio_api/run/predict", json=event)
            return response.raise_for_status().text
        (await self.client.post("/gradio_api/queue/join", json=event)).raise_for_status()
        answer = ""
        async with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    answered()
                    answer = line
                    if not message["success"]:
                        raise Failed(f"{name}: {message['output']}")
        if not answer:
            raise Failed(f"{name} was not completed.")
        return answer


async def crowd(address: str, recorded: Recorded, run: str, owner: str, visitors: int, seconds: float) -> Figures:
    """Let so many visitors come and go; return what was measured."""
    figures, until = Figures(), time.monotonic() + seconds

    async def chair(number: int) -> None:
        await asyncio.sleep(number * min(ARRIVE, seconds / 4) / visitors)
        while (left := until - time.monotonic()) > ASK:
            visitor = Visitor(address, recorded, figures, run, owner, follows=number == 0)
            await visitor.stay(min(left, random.uniform(*STAY)))

    await asyncio.gather(*(chair(number) for number in range(visitors)))
    return figures


class Processes:
    """What the app and its children use."""

    def __init__(self, pid: int):
        self.app = psutil.Process(pid)
        self.memory: list[float] = []  # MB of the app itself

    def cpu(self) -> tuple[float, float]:
        """Seconds of a processor: of the app, and of its children, which train and project."""
        own = sum(self.app.cpu_times()[:2])
        children = 0.0
        for child in self.app.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended meanwhile
                children += sum(child.cpu_times()[:2])
        return own, children

    async def watch(self, seconds: float) -> None:
        """Note the memory again and again."""
        while True:
            self.memory.append(self.app.memory_info().rss / 2**20)
            await asyncio.sleep(seconds)


async def measure(address: str, pid: int, visitors: int, minutes: float) -> tuple[Figures, list[dict[str, Any]]]:
    """Start a run, record a page, let visitors come; return what was measured, and that as rows."""
    owner = secrets.token_urlsafe(24)
    client = Client(address, verbose=False)
    run = client.predict(**RUN, visitor=owner, api_name="/start_run")["run"]
    recorded = await asyncio.to_thread(record, address)
    processes, seconds = Processes(pid), 60 * minutes
    watching = asyncio.create_task(processes.watch(seconds / 60))
    before, mine, started = processes.cpu(), time.process_time(), time.monotonic()
    figures = await crowd(address, recorded, run, owner, visitors, seconds)
    wall = time.monotonic() - started
    shares = [(after - earlier) / wall for after, earlier in zip(processes.cpu(), before, strict=True)]
    watching.cancel()
    trained = client.predict(run=run, visitor=owner, api_name="/run_status")
    client.predict(run=run, visitor=owner, api_name="/stop_run")
    while client.predict(run=run, visitor=owner, api_name="/run_status")["state"] == "stopping":
        await asyncio.sleep(1)
    memory = processes.memory
    third = memory[len(memory) // 3]
    return figures, [
        {"what": "setting", "visitors": visitors, "minutes": minutes, "cores": psutil.cpu_count()},
        *figures.rows(),
        {"what": "memory of the app, MB", "start": round(memory[0]), "after a third": round(third)}
        | {"end": round(memory[-1]), "largest": round(max(memory)), "growth": round(memory[-1] - third)},
        {"what": "cores in use", "app": round(shares[0], 2), "run": round(shares[1], 2)}
        | {"visitors": round((time.process_time() - mine) / wall, 2)},
        {"what": "run", "state": trained["state"], "steps": trained["step"]},
        *({"what": "error", "reason": reason} for reason in sorted(figures.reasons)[:20]),
    ]


def main() -> None:
    """Measure an app of its own, with a workspace of its own, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address = serve(Path(folder) / "workspace", Path(folder) / "app.log")
        try:
            _, rows = asyncio.run(measure(address, process.pid, asked.visitors, asked.minutes))
        finally:
            process.terminate()
            process.wait(60)
    for row in rows:
        print(json.dumps(row))
    keep_figures(f"visitors, {asked.visitors} for {asked.minutes:g} minutes", rows=rows)


if __name__ == "__main__":
    main()
