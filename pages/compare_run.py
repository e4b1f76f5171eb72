"""Compare: choose rows, run the trainings that are missing, watch them, stop."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.cli.as_code import as_compare_command
from metalora.experiments.results import MOST_SEEDS, MOST_STEPS, own_config
from metalora.experiments.variants import CONTROLS, DEFAULT
from metalora.models.backbones import BUNDLED
from metalora.runs.comparison_process import Stage, clear_stop, request_stop, run_in_subprocess, stage
from metalora.training.config import TrainingConfig
from metalora.training.loop import clock
from metalora.util.errors import InputError
from metalora.views.compare import label
from pages.context import PRIVATE, QUIET, Context
from pages.words import Message, show_errors

OWN_SUITE = "digits"
STEPS = TrainingConfig().steps
# Not COMPUTE: a comparison takes minutes, in processes of its own; looking at pictures must not wait for it.
COMPARISON = {"concurrency_id": "comparison", "concurrency_limit": 1}
RESTING = "Nothing is running: Stop has nothing to do."
WAITING = "Waiting for its turn: one comparison runs at a time."
STOPPED = "Nothing is running: trainings that ended are kept, Run goes on with the others."
ALL_THERE = "All trainings of these rows are there: tick more rows or raise the seeds to run some."


def fields_to_run() -> dict[str, Any]:
    """The controls of a comparison, by name."""
    suites = [("Digits: 12 tasks, 3 of them unseen; nothing to download", OWN_SUITE)]
    fields = {
        "suite": gr.Radio(suites, value=OWN_SUITE, label="Suite"),
        "methods": gr.CheckboxGroup([(label(name), name) for name in DEFAULT], value=list(DEFAULT), label="Methods"),
        "controls": gr.CheckboxGroup(
            [(label(name), name) for name in CONTROLS],
            value=list(CONTROLS),
            label="Controls",
            info="Constant: one learned core for all images. Shuffled: cores of other test images.",
        ),
    }
    # No bounds here: own_config tells them in a sentence, where a component would fail its events.
    with gr.Row():
        fields["backbones"] = gr.CheckboxGroup(list(BUNDLED), value=list(BUNDLED), label="Backbones", min_width=200)
        fields["seeds"] = gr.Number(
            1, label="Seeds", precision=0, info=f"Up to {MOST_SEEDS}; stars need 6.", min_width=120
        )
        fields["steps"] = gr.Number(
            STEPS,
            label="Steps",
            precision=0,
            info=f"Of each training, up to {MOST_STEPS:,}; bundled ones have {STEPS}.",
            min_width=120,
        )
    return fields


def run_missing(context: Context, fields: dict[str, Any]) -> gr.Number:
    """Lay out and wire Run and Stop; a number that changes whenever a training has ended."""
    ready, status, error = Message(kind="status"), Message(RESTING), Message(kind="error")
    with gr.Row():
        run = gr.Button("Run what is missing", variant="primary", min_width=160)
        stop = gr.Button("Stop", min_width=100)
    ended = gr.Number(0, visible="hidden", show_label=False)
    inputs = [context.visitor, *fields.values()]

    def config_and_folder(token: str, *values: Any) -> tuple[Any, Any]:
        given = dict(zip(fields, values, strict=True))
        config = own_config(given["backbones"], [*given["methods"], *given["controls"]], given["seeds"], given["steps"])
        return config, context.app_state.workspace.comparison_folder(token, given["suite"])

    def update_status(token: str | None, *values: Any) -> list[Any]:
        try:
            now = stage(*config_and_folder(token or "", *values))
        except InputError as problem:
            return ["", str(problem)]
        return [_say_ready(now), ""]

    watched = [field.change for field in fields.values()]
    gr.on([context.load, *watched], update_status, inputs, [ready, error], trigger_mode="always_last", **QUIET)

    def work(token: str, *values: Any) -> Iterator[list[Any]]:
        before = -1
        try:
            config, folder = config_and_folder(token, *values)
            for now in run_in_subprocess(config, folder, as_compare_command(config)):
                yield ["", _say_running(now), "", now.done if now.done != before else gr.skip()]
                before = now.done
        except InputError as problem:
            yield [gr.skip(), RESTING, str(problem), gr.skip()]
            return
        yield [_say_ready(now), RESTING if now.done == now.total else STOPPED, "", gr.skip()]

    def word(leave: Callable[[Path], None], say: Callable[[], Any]) -> Callable[[str, str], Any]:
        def left(token: str, suite: str) -> Any:
            leave(context.app_state.workspace.comparison_folder(token, suite))
            return say()

        return show_errors(left)

    # Stop is a word in the folder, as for runs: a cancelled event may still send what it said before, and its button
    # ignores clicks for a while.
    mine, outputs = [context.visitor, fields["suite"]], [ready, status, error, ended]
    begun = run.click(word(clear_stop, lambda: WAITING), mine, status, **QUIET)
    begun.then(work, inputs, outputs, show_progress="hidden", **COMPARISON, **PRIVATE)
    stop.click(word(request_stop, gr.skip), mine, status, **QUIET)
    return ended


def _say_ready(now: Stage) -> str:
    missing = now.total - now.done
    if not missing:
        return ALL_THERE
    return f"{now.done} of {now.total} trainings are there, {missing} to run; what ends is kept, also by Stop."


def _say_running(now: Stage) -> str:
    progress = f"Running: {now.done} of {now.total} trainings are there"
    if now.seconds_left is None:
        return f"{progress}; the time left is known after the first."
    return f"{progress}, about {clock(now.seconds_left)} left (minutes:seconds)."
