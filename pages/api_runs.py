"""Endpoints for programs: start a run, ask how it stands, stop it; read measured results.

Whose run it is, is checked at every call.
"""

import hashlib
from dataclasses import replace
from typing import Any

import gradio as gr

from metalora.adapters.config import AdapterConfig
from metalora.experiments.results import compare_rows
from metalora.runs.presets import VALIDATIONS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_log import read_events
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from pages.context import Context
from pages.words import show_errors

START = (
    "Train an adapter; returns {run, visitor, status} at once. Keep the visitor's id to ask for the run from another "
    "session; within one session it can be left out."
)
STATUS = (
    "How a run of yours stands: state, step, steps, seconds_left, reason, metrics, place, and its validations so far."
)
COMPARE = "Rows of a bundled comparison: method, backbone, split, gallery, k, accuracy, standard deviation, budgets."
STOP = "Stop a run of yours after the step at hand; what is trained is kept."


def run_endpoints(context: Context) -> None:
    """Register `/start_run`, `/run_status`, `/stop_run`, `/compare`; nothing of them is seen on the page."""
    app_state = context.app_state

    @show_errors
    def start_run(
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
        training = TrainingConfig(steps=steps, batch_size=batch_size, lr=lr, seed=seed)
        training = replace(training, validate_every=max(1, steps // VALIDATIONS))
        owner, adapter = _owner(visitor, request), AdapterConfig(method, rank=rank, seed=seed)
        if start:
            backbone, adapter = app_state.start(owner, start)
        suite_config = SuiteConfig(suite, max_queries=max_queries)
        config = RunConfig(backbone, suite_config, replace(adapter, seed=seed), training, start=start or None)
        run = app_state.workspace.prepare_run(owner, config)
        # Once; on ZeroGPU, where a run lives in its event, to its end.
        for status in app_state.backend.start(owner, run):
            last = status.to_dict()
        return {"run": run, "visitor": owner, "status": last}

    @show_errors
    def run_status(run: str, visitor: str, request: gr.Request) -> dict[str, Any]:
        owner = _owner(visitor, request)
        status = app_state.backend.status(owner, run).to_dict()
        events = read_events(app_state.workspace.run_folder(owner, run))
        validations = events[["step", "validation"]].dropna().to_dict("records")
        return {**status, "validations": validations}

    @show_errors
    def stop_run(run: str, visitor: str, request: gr.Request) -> dict[str, Any]:
        return app_state.backend.stop(_owner(visitor, request), run).to_dict()

    visitor = ("text", "", "Your visitor's id, from start_run; left out: this session's")
    of_run = (("text", "", "Id of the run"), visitor)
    default = replace(RunConfig(), training=TrainingConfig())
    settings = (
        ("text", default.adapter.method, "Method"),
        ("text", default.backbone, "Backbone, bundled or of timm"),
        ("whole", default.adapter.rank, "Rank R"),
        ("text", default.suite.name, "Suite: digits, cifar10, or upload:ID"),
        ("whole", default.training.steps, "Steps"),
        ("whole", default.training.batch_size, "Images of a step"),
        ("number", default.training.lr, "Learning rate"),
        ("whole", default.training.seed, "Random seed"),
        ("whole", 500, "Max queries: the most images of a side"),
        ("text", "", "Adapter to go on from, as in inspect_images; its method, rank and backbone are taken over"),
        visitor,
    )
    endpoints = (
        (start_run, "start_run", settings, START),
        (run_status, "run_status", of_run, STATUS),
        (stop_run, "stop_run", of_run, STOP),
        (show_errors(compare_rows), "compare", (("text", "digits-default", "Name of the results"),), COMPARE),
    )
    for function, name, fields, text in endpoints:
        gr.Button(visible=False).click(
            function,
            [_field(*field) for field in fields],
            gr.JSON(label="Result", visible=False),
            api_name=name,
            api_description=text,
            concurrency_limit=None,
        )


def _field(kind: str, value: Any, label: str) -> gr.Textbox | gr.Number:
    if kind == "text":
        return gr.Textbox(value, label=label, visible=False)
    return gr.Number(value, label=label, precision=0 if kind == "whole" else None, visible=False)


def _owner(visitor: str, request: gr.Request) -> str:
    """The token of whoever calls: their own, or one that only their session leads to."""
    return visitor or hashlib.sha256(f"session {request.session_hash}".encode()).hexdigest()[:32]
