"""The app's endpoints for runs, whose runs they are, and what a Space needs; through gradio's own client."""

import io
import itertools
import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-to/call-by-api.md"
SHORT = {"method": "metalora-cp", "rank": 2, "steps": 3, "batch_size": 8, "max_queries": 40}


def client(app):
    return Client(app, verbose=False)


def finished(asked, run, **who):
    """The status of a run at its end."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        status = asked.predict(run=run, api_name="/run_status", **who)
        if status["state"] in ("finished", "failed", "stopped"):
            return status
        time.sleep(1)
    raise AssertionError(f"The run does not end: {status}")


def test_a_run_is_started_watched_and_belongs_to_its_session(app):
    mine, other = client(app), client(app)
    started = mine.predict(**SHORT, api_name="/start_run")
    assert started["status"]["state"] in ("queued", "running")
    with pytest.raises(AppError, match="no such run of yours"):
        other.predict(run=started["run"], api_name="/run_status")
    with pytest.raises(AppError, match="no such run of yours"):
        other.predict(run=started["run"], api_name="/stop_run")
    status = finished(mine, started["run"])
    assert status["state"] == "finished" and status["step"] == 3
    assert [row["step"] for row in status["validations"]] == [0, 1, 2, 3]
    on = mine.predict(**SHORT | {"rank": 9, "start": f"run:{started['run']}"}, api_name="/start_run")
    assert finished(mine, on["run"])["state"] == "finished"  # of rank 2, as what it goes on from
    # Whoever holds the visitor's id is that visitor, in any session.
    assert other.predict(run=started["run"], visitor=started["visitor"], api_name="/run_status")["state"] == "finished"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "lorra"}, "Unknown method"),
        ({"backbone": "resnet2000"}, "Unknown backbone"),
        ({"suite": "folder:/etc"}, "zip archive"),
        ({"suite": "table:/etc/passwd"}, "zip archive"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2_000_000}, "steps is 2,000,000: use a whole number from 0 to 1,000,000"),
        ({"start": "run:nobodys"}, "no such run of yours"),
        ({"lr": None}, "learning rate is empty"),
        ({"visitor": "../../etc"}, "visitor's id"),
    ],
)
def test_bad_requests_are_answered_with_a_message(app, settings, said):
    asked = client(app)
    try:
        started = asked.predict(**SHORT | settings, api_name="/start_run")
    except AppError as error:
        assert re.search(said, str(error))
    else:  # what only the worker finds out is the run's reason
        status = finished(asked, started["run"])
        assert status["state"] == "failed" and re.search(said, status["reason"])


@pytest.fixture
def archive(tmp_path):
    """A zip of two tasks, two classes, and 24 images of each."""
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as target:
        for task, kind, i in itertools.product(("photo", "toy"), ("cat", "dog"), range(24)):
            image, colour = io.BytesIO(), (9 * i, 90 if task == "toy" else 9, 200 if kind == "cat" else 0)
            Image.new("RGB", (16, 16), colour).save(image, "PNG")
            target.writestr(f"{task}/{kind}/{i}.png", image.getvalue())
    return tmp_path / "images.zip"


def test_images_are_uploaded_trained_on_and_deleted(app, archive):
    mine, other = client(app), client(app)
    sent = mine.predict(handle_file(archive), api_name="/upload_images")
    assert (sent["images"], sent["tasks"]) == (96, ["photo", "toy"])
    listed = mine.predict(api_name="/uploads")
    assert listed == [{"upload": sent["upload"], "name": "images.zip", "bytes": archive.stat().st_size}]
    assert other.predict(api_name="/uploads") == []
    assert other.predict(visitor=sent["visitor"], api_name="/uploads") == listed
    suite = {"suite": f"upload:{sent['upload']}"}
    with pytest.raises(AppError, match="no such upload of yours"):
        other.predict(**SHORT | suite, api_name="/start_run")
    started = mine.predict(**SHORT | suite, api_name="/start_run")
    assert started["visitor"] == sent["visitor"]
    with pytest.raises(AppError, match="no such upload of yours"):
        other.predict(sent["upload"], api_name="/delete_upload")
    assert mine.predict(sent["upload"], api_name="/delete_upload") == []  # while the run has a copy
    assert finished(mine, started["run"])["state"] == "finished"
    for upload in (sent["upload"], "../../etc", ""):
        with pytest.raises(AppError, match="no such upload of yours"):
            mine.predict(upload, api_name="/delete_upload")


def test_the_program_of_the_documentation_runs(app, archive, monkeypatch):
    monkeypatch.chdir(archive.parent)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (program,) = (block for block in blocks if "gradio_client" in block)
    names: dict = {}
    exec(compile(program.replace("http://127.0.0.1:7860", app), PAGE.name, "exec"), names)
    names["app"].predict(run=names["run"]["run"], api_name="/stop_run")


def test_what_is_no_archive_of_images_is_not_kept(app, tmp_path):
    mine = client(app)
    (tmp_path / "notes.txt").write_text("none")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with zipfile.ZipFile(tmp_path / "alike.zip", "w") as target:
        for i in range(24):
            target.writestr(f"cat/{i}.png", b"")
    with pytest.raises(AppError, match="two are needed"):
        mine.predict(handle_file(tmp_path / "alike.zip"), api_name="/upload_images")
    with pytest.raises(AppError, match="not a whole zip archive"):
        mine.predict(handle_file(tmp_path / "notes.txt"), api_name="/upload_images")
    with pytest.raises(AppError, match="holds no images"):
        mine.predict(handle_file(tmp_path / "empty.zip"), api_name="/upload_images")
    with pytest.raises(AppError, match="There is no file"):
        mine.predict(None, api_name="/upload_images")
    assert mine.predict(api_name="/uploads") == []


def said(app, name, *data):
    """What the endpoint of this name says, asked by hand: the last event and its data."""
    event = httpx.post(f"{app}/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()["event_id"]
    answer = httpx.get(f"{app}/gradio_api/call/{name}/{event}", timeout=60).text
    return re.findall(r"event: (\w+)\ndata: (.*)\n", answer)[-1]


def test_files_that_were_never_uploaded_are_refused_in_a_sentence(app):
    for path in ("/etc/passwd", "../../etc/passwd", "pyproject.toml", "http://127.0.0.1:1/"):
        forged = {"path": path, "meta": {"_type": "gradio.FileData"}}
        kind, data = said(app, "upload_images", forged, "")
        assert kind == "error" and "The request cannot be read" in data


def test_every_response_says_what_the_page_may_do(app):
    for path in ("/", "/config", "/gradio_api/file=/etc/passwd", "/nowhere"):
        headers = httpx.get(f"{app}{path}").headers
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"]


def test_many_programs_may_ask_how_a_run_is_doing(app):
    started = client(app).predict(**SHORT, api_name="/start_run")
    run, who = started["run"], {"X-Visitor": started["visitor"]}

    def ask(_):
        data = {"data": [run, started["visitor"]], "session_hash": "many"}
        return httpx.get(f"{app}/runs/{run}", headers=who, timeout=60), httpx.post(
            f"{app}/gradio_api/run/run_status", json=data, timeout=60
        )

    with ThreadPoolExecutor(30) as threads:
        answers = [answer for pair in threads.map(ask, range(60)) for answer in pair]
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json()["run"] == answers[1].json()["data"][0]["run"] == run
    health = httpx.get(f"{app}/health").json()
    assert health["status"] == "ok" and health["version"] and health["waiting"] + health["running"] <= 5
    refused = httpx.get(f"{app}/runs/{run}", headers={"X-Visitor": "another"})
    assert refused.status_code == 404 and "lost its visitor's id" in refused.json()["detail"]


def test_run_ids_lead_nowhere_else(app):
    for run in ("../../../etc", "/etc/passwd", "", "20260101-000000-000000-0123456789abcdef"):
        with pytest.raises(AppError, match="no such run"):
            client(app).predict(run=run, api_name="/run_status")


def test_only_the_endpoints_are_public(app):
    named = client(app).view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {
        *("/inspect_images", "/embed", "/start_run", "/run_status", "/stop_run", "/compare"),
        *("/upload_images", "/uploads", "/delete_upload"),
        *("/bundled_adapters", "/measured_results", "/measured_result", "/explain_adapters"),  # for MCP clients
    }
    assert all(entry["description"] for entry in named.values())


def front_matter():
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    return dict(line.split(": ", 1) for line in text.strip().splitlines() if ": " in line)


def test_the_space_gets_a_gradio_that_is_required_here():
    required = {Requirement(line).name: Requirement(line) for line in (ROOT / "requirements.txt").read_text().split()}
    assert Version(front_matter()["sdk_version"]) in required["gradio"].specifier
    assert Version("2.11.0") in required["torch"].specifier  # of ZeroGPU
    assert (ROOT / front_matter()["app_file"]).exists()
    assert len(front_matter()["short_description"]) <= 60


def test_without_zerogpu_runs_are_trained_by_workers(tmp_path, monkeypatch):
    from metalora.runs.queue import RunQueue
    from metalora.runs.workspace import Workspace
    from pages.backend import backend

    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    queue = backend(Workspace(tmp_path))
    assert isinstance(queue, RunQueue) and queue.outlives_page
    queue.close()


def test_on_zerogpu_a_run_lives_in_its_event(tmp_path, monkeypatch):
    import sys
    from types import SimpleNamespace

    from metalora.runs.workspace import Workspace
    from metalora.runs.zerogpu import InEvent
    from pages.backend import MAX_SECONDS, backend

    asked = []

    def gpu(duration):
        asked.append(duration)
        return lambda function: function

    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    in_event = backend(Workspace(tmp_path))
    assert isinstance(in_event, InEvent) and not in_event.outlives_page
    assert callable(asked[0]) and MAX_SECONDS > 0
