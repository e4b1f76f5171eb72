"""Endpoints for programs: inspect and embed images, start and follow runs, read measured results.

Nothing of them is seen on the page, and their errors are the page's messages. Whose run it is, is checked at every
call.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse

from metalora.adapters.config import AdapterConfig
from metalora.experiments.results import compare_rows
from metalora.runs.presets import VALIDATIONS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_log import read_events
from metalora.runs.start import start_run
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.version import __version__
from metalora.views.api import embed_files, inspect_files
from metalora.views.app_state import DEFAULT, AppState
from metalora.views.uploads import add_archive, archive_contents, fit_ks, list_uploads

from .components import show_errors
from .context import COMPUTE, Context
from .request_checks import OF_MCP

STATUS, HEALTH = "/runs/{run}", "/health"
LOOK_UPS = ("run_status", "uploads", "compare")  # which read a file, and so wait for no turn
VISITOR = "Your visitor's id, as start_run and upload_images return it; left out: this session's"


@dataclass(frozen=True)
class Endpoints:
    """The functions behind the endpoints; each is named like its endpoint, and its docstring is the description."""

    app_state: AppState
    inspect_files: Callable[..., dict[str, Any]]
    embed_files: Callable[..., dict[str, Any]]

    def inspect_images(self, files: list[str], adapter: str, visitor: str) -> dict[str, Any]:
        """Return the adapters that images get.

        That is for every image its core and the strength ‖ΔW‖ / ‖W‖ by layer, its nearest gallery images, and the
        cosine similarity between the cores. A file that cannot be read is an error that names it.
        """
        return self.inspect_files(visitor, adapter, files)

    def embed(self, files: list[str], adapter: str, visitor: str) -> dict[str, Any]:
        """Return {adapter, names, embeddings} of images, each with its own adapter."""
        return self.embed_files(visitor, adapter, files)

    def start_run(
        self,
        method: str,
        backbone: str,
        rank: int,
        suite: str,
        steps: int,
        batch_size: int,
        lr: float,
        seed: int,
        max_queries: int,
        start: str,
        visitor: str,
        request: gr.Request,
    ) -> dict[str, Any]:
        """Train an adapter; return {run, visitor, status} at once, on ZeroGPU at the end of the run.

        Keep the visitor's id to ask for the run from another session; within one session it can be left out.
        """
        training = TrainingConfig(steps=steps, batch_size=batch_size, lr=lr, seed=seed)
        training = replace(training, validate_every=max(1, steps // VALIDATIONS))
        owner, adapter = _new_owner(self.app_state, visitor, request), AdapterConfig(method, rank=rank, seed=seed)
        if start:
            backbone, adapter = self.app_state.start_settings(owner, start)
        suite_config = SuiteConfig(suite, max_queries=max_queries)
        config = RunConfig(backbone, suite_config, replace(adapter, seed=seed), training, start=start or None)
        config = fit_ks(self.app_state, owner, config, chosen=False)
        *_, status = start_run(self.app_state.workspace, self.app_state.backend, owner, config)
        return {"run": status.run, "visitor": owner, "status": status.to_dict()}

    def run_status(self, run: str, visitor: str, request: gr.Request) -> dict[str, Any]:
        """Return how a run of yours is doing: its state, steps, time left, reason, metrics and validations."""
        return full_status(self.app_state, _owner(visitor, request), run)

    def stop_run(self, run: str, visitor: str, request: gr.Request) -> dict[str, Any]:
        """Stop a run of yours after the current step; what is trained is kept."""
        return self.app_state.backend.stop(_owner(visitor, request), run).to_dict()

    def upload_images(self, file: str, visitor: str, request: gr.Request) -> dict[str, Any]:
        """Keep a zip of task/class/image or class/image; return {upload, visitor, images, tasks}.

        A run takes it as the suite upload:ID, with ID the value of "upload"; in another session also with the visitor's
        id. At the limit of archives or bytes it is refused: delete one first.
        """
        owner = _new_owner(self.app_state, visitor, request)
        upload = add_archive(self.app_state, owner, file)
        contents = archive_contents(self.app_state, owner, upload)
        return {"upload": upload, "visitor": owner, "images": contents.images, "tasks": contents.tasks}

    def uploads(self, visitor: str, request: gr.Request) -> list[dict[str, Any]]:
        """Return your uploads, those used last first, each {upload, name, bytes}."""
        return list_uploads(self.app_state, _owner(visitor, request))

    def delete_upload(self, upload: str, visitor: str, request: gr.Request) -> list[dict[str, Any]]:
        """Delete an upload of yours; return those that are left. Runs made with it keep their copy."""
        self.app_state.workspace.delete_upload(_owner(visitor, request), upload)
        return self.uploads(visitor, request)

    def compare(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a bundled comparison, each with its accuracy, standard deviation and budgets."""
        return compare_rows(name)


def full_status(app_state: AppState, visitor: str, run: str) -> dict[str, Any]:
    """Return the status of a visitor's run with its validations, as plain values."""
    status = app_state.backend.status(visitor, run).to_dict()
    events = read_events(app_state.workspace.run_folder(visitor, run))
    return {**status, "validations": events[["step", "validation"]].dropna().to_dict("records")}


def health_route(app_state: AppState) -> Callable[[Request], JSONResponse]:
    """Return what answers `HEALTH`, for what watches the app: the version, and how many runs wait and are trained."""
    return lambda request: JSONResponse({"status": "ok", "version": __version__, **app_state.backend.counts()})


def status_route(app_state: AppState) -> Callable[[Request], JSONResponse]:
    """Return what answers `STATUS`: the same as the endpoint /run_status, without a session, for programs that poll."""

    def answer(request: Request) -> JSONResponse:
        try:
            return JSONResponse(
                full_status(app_state, request.headers.get("X-Visitor", ""), request.path_params["run"])
            )
        except InputError as error:
            return JSONResponse({"detail": str(error)}, 404)

    return answer


def endpoints(context: Context) -> None:
    """Register all endpoints."""
    app_state = context.app_state
    answers = Endpoints(app_state, app_state.wrap_for_gpu(inspect_files), app_state.wrap_for_gpu(embed_files))
    fields = {
        "inspect_images": _image_fields,
        "embed": _image_fields,
        "start_run": _start_fields,
        "run_status": _run_fields,
        "stop_run": _run_fields,
        "upload_images": _upload_fields,
        "uploads": lambda: [_text("", VISITOR)],
        "delete_upload": lambda: [_text("", "Id of the upload, from upload_images or uploads"), _text("", VISITOR)],
        "compare": lambda: [_text("digits-default", "Name of the results")],
    }
    for name, inputs in fields.items():
        gr.Button(visible=False).click(
            show_errors(getattr(answers, name)),
            inputs(),
            gr.JSON(label="Result", visible=False),
            api_name=name,
            queue=name not in LOOK_UPS,
            **(COMPUTE if inputs is _image_fields else {"concurrency_limit": None}),
        )


def _upload_fields() -> list[Any]:
    return [gr.File(label="Zip archive of images", visible=False), _text("", VISITOR)]


def _image_fields() -> list[Any]:
    return [
        gr.File(file_count="multiple", label="Images", visible=False),
        _text(DEFAULT, "Adapter: BACKBONE/METHOD of a bundled one, or run:ID of yours"),
        _text("", "Your visitor's id; bundled adapters need none"),
    ]


def _start_fields() -> list[Any]:
    default = RunConfig()
    return [
        _text(default.adapter.method, "Method"),
        _text(default.backbone, "Backbone, bundled or of timm"),
        _number(default.adapter.rank, "Rank R"),
        _text(default.suite.name, "Suite: digits, cifar10, or upload:ID with the ID that upload_images returned"),
        _number(default.training.steps, "Steps"),
        _number(default.training.batch_size, "Images in a step"),
        _number(default.training.lr, "Learning rate", precision=None),
        _number(default.training.seed, "Random seed"),
        _number(500, "Max queries: at most so many images in each query split"),
        _text("", "Adapter to start from, as in inspect_images; its method, rank and backbone are taken over"),
        _text("", VISITOR),
    ]


def _run_fields() -> list[Any]:
    return [_text("", "Id of the run, from start_run"), _text("", VISITOR)]


def _text(value: str, label: str) -> gr.Textbox:
    return gr.Textbox(value, label=label, visible=False)


def _number(value: float, label: str, precision: int | None = 0) -> gr.Number:
    return gr.Number(value, label=label, precision=precision, visible=False)


def _owner(visitor: str, request: gr.Request) -> str:
    """Return the visitor's token: the given one, or one that only the caller's session leads to.

    Raises:
        InputError: none is given, and the caller has no session, or one that all clients of MCP share.
    """
    if visitor:
        return visitor
    session = getattr(request, "session_hash", None)
    if session is None or OF_MCP in request.headers:
        raise InputError("This call has no session of its own: give your visitor's id as `visitor`.")
    return hashlib.sha256(f"session {session}".encode()).hexdigest()[:32]


def _new_owner(app_state: AppState, visitor: str, request: gr.Request) -> str:
    """Return the same, a new visitor's token where there is neither token nor session."""
    try:
        return _owner(visitor, request)
    except InputError:
        return app_state.workspace.new_visitor()
