"""Compare: choose rows, run the trainings that are missing, watch them, stop."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.cli.as_code import as_compare_command
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.results import MAX_SEEDS, MAX_STEPS, own_config, remember_config
from metalora.experiments.variants import CONTROLS, DEFAULT
from metalora.models.bundled_networks import BUNDLED
from metalora.runs.comparison_process import Stage, clear_stop, request_stop, run_in_subprocess, stage
from metalora.runs.visitor_limits import server_limits
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.training.loop import clock
from metalora.util.errors import InputError
from metalora.views.compare import label

from .components import Message, show_errors
from .context import PRIVATE, QUIET, Context
from .train_fields import suite_choices

STEPS = TrainingConfig().steps
# Not COMPUTE: a comparison takes minutes, in processes of its own; inspecting images must not wait for it.
COMPARISON = {"concurrency_id": "comparison", "concurrency_limit": 1}
RESTING = "Nothing is running: Stop has nothing to do."
WAITING = "Waiting for its turn: one comparison runs at a time."
STOPPED = "Nothing is running: trainings that ended are kept, Run resumes with the others."
ALL_DONE = "All trainings of these rows are done: tick more rows or raise the seeds to run some."


@dataclass(frozen=True)
class ComparisonForm:
    """The controls of a visitor's own comparison and what they do.

    Attributes:
        fields: by name, see `own_rows`.
    """

    context: Context
    fields: dict[str, Any]

    def config_and_folder(self, token: str | None, *values: Any) -> tuple[ComparisonConfig, Path]:
        """Return the comparison that is chosen and the folder of its trainings.

        Raises:
            InputError: nothing is chosen, it is not known, or it is too much.
        """
        chosen = dict(zip(self.fields, values, strict=True))
        folder = self.context.app_state.workspace.comparison_folder(token or "", chosen["suite"])
        methods = [*chosen["methods"], *chosen["controls"]]
        config = own_config(chosen["backbones"], methods, chosen["seeds"], chosen["steps"])
        return replace(config, suite=SuiteConfig(chosen["suite"])), folder

    def update_status(self, token: str | None, *values: Any) -> list[Any]:
        """Say how many trainings are done and how many are missing; or an error."""
        try:
            return [_describe(stage(*self.config_and_folder(token, *values))), ""]
        except InputError as problem:
            return ["", str(problem)]

    def run_missing(self, token: str, *values: Any) -> Iterator[list[Any]]:
        """Run what is missing; yield what is ready, the status, an error, and the number of trainings when it grows."""
        before = -1
        try:
            config, folder = self.config_and_folder(token, *values)
            self.context.app_state.workspace.make_room(token)
            remember_config(config, folder)
            command, seconds = as_compare_command(config), 60 * server_limits().minutes
            for progress in run_in_subprocess(config, folder, command, max_seconds=seconds):
                yield ["", _describe_running(progress), "", progress.done if progress.done != before else gr.skip()]
                before = progress.done
        except InputError as problem:
            yield [gr.skip(), RESTING, str(problem), gr.skip()]
            return
        yield [_describe(progress), RESTING if progress.done == progress.total else STOPPED, "", gr.skip()]

    def clear_stop(self, token: str, suite: str) -> str:
        """Take an earlier stop back."""
        clear_stop(self.context.app_state.workspace.comparison_folder(token, suite))
        return WAITING

    def request_stop(self, token: str, suite: str) -> None:
        """Ask the comparison to stop."""
        request_stop(self.context.app_state.workspace.comparison_folder(token, suite))


def own_rows(context: Context) -> tuple[ComparisonForm, gr.Number]:
    """Lay out and wire the form, with Run and Stop; a number beside it changes whenever a training has ended."""
    form = ComparisonForm(context, _fields())
    ready, status, error = Message(kind="status"), Message(RESTING), Message(kind="error")
    with gr.Row():
        run = gr.Button("Run what is missing", variant="primary", min_width=160)
        stop = gr.Button("Stop", min_width=100)
    ended = gr.Number(0, visible="hidden", show_label=False)
    inputs = [context.visitor, *form.fields.values()]
    changes = [context.load, *(field.change for field in form.fields.values())]
    gr.on(changes, form.update_status, inputs, [ready, error], trigger_mode="always_last", **QUIET)
    # Stop is a file in the folder, as for runs: a cancelled event may still send what it yielded before, and its button
    # ignores clicks for a while.
    of_folder = [context.visitor, form.fields["suite"]]
    begun = run.click(show_errors(form.clear_stop), of_folder, status, **QUIET)
    begun.then(form.run_missing, inputs, [ready, status, error, ended], show_progress="hidden", **COMPARISON, **PRIVATE)
    stop.click(show_errors(form.request_stop), of_folder, None, **QUIET)
    return form, ended


def _fields() -> dict[str, Any]:
    """Lay out the controls of a comparison, by name."""
    # The bundled backbones suit those alone that need no other kind of network.
    methods = [*DEFAULT, *(name for name, entry in METHODS.items() if name not in DEFAULT and not entry.needs)]
    fields = {
        "suite": gr.Radio(suite_choices(), value="digits", label="Suite"),
        "methods": gr.CheckboxGroup([(label(name), name) for name in methods], value=list(DEFAULT), label="Methods"),
        "controls": gr.CheckboxGroup(
            [(label(name), name) for name in CONTROLS],
            value=list(CONTROLS),
            label="Controls",
            info="Constant: one learned core for all images. Shuffled: cores of other test images.",
        ),
    }
    # No bounds here: own_config raises a message, where a component would fail its events.
    with gr.Row():
        fields["backbones"] = gr.CheckboxGroup(list(BUNDLED), value=list(BUNDLED), label="Backbones", min_width=200)
        fields["seeds"] = gr.Number(
            1, label="Seeds", precision=0, info=f"Up to {MAX_SEEDS}; stars need 6.", min_width=120
        )
        fields["steps"] = gr.Number(
            STEPS,
            label="Steps",
            precision=0,
            info=f"Of each training, up to {MAX_STEPS:,}; bundled ones have {STEPS}.",
            min_width=120,
        )
    return fields


def _describe(progress: Stage) -> str:
    missing = progress.total - progress.done
    if not missing:
        return ALL_DONE
    return f"{progress.done} of {progress.total} trainings are done, {missing} to run; what ends is kept, also by Stop."


def _describe_running(progress: Stage) -> str:
    done = f"Running: {progress.done} of {progress.total} trainings are done"
    if progress.seconds_left is None:
        return f"{done}; the time left is known after the first."
    return f"{done}, about {clock(progress.seconds_left)} left (minutes:seconds)."
