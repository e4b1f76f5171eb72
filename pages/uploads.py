"""Train: the visitor's own images, sent as zip archives, of which one is chosen, or deleted."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.suites.registry import SUITES
from metalora.suites.task_lists import TEN_TRANSFORMS, TaskList
from metalora.util.errors import InputError
from metalora.views.uploads import add_archive, archive_contents, limits_text, upload_titles

from .components import Message, show_errors
from .context import PRIVATE, QUIET, Context

OWN = "own"
NONE = "No archive yet: send a zip of your images."
ASK = "(token, upload) => [token, upload, confirm('Delete this archive? Runs made with it keep their copy.')]"


@dataclass(frozen=True)
class UploadPanel:
    """The controls of own images and what they answer.

    Attributes:
        group: around all of them, shown for own images only.
        refused: why the file that was sent last is not kept.
        chosen: id of the archive for the next run.
    """

    context: Context
    group: gr.Column
    archive: gr.File
    refused: Message
    chosen: gr.Dropdown
    delete: gr.Button
    contents: Message

    def menu(self, token: str, upload: str | None) -> Any:
        """Return the menu of the visitor's archives: the given one is chosen where it exists, else that used last."""
        titles = upload_titles(self.context.app_state, token)
        value = upload if upload in titles else next(iter(titles), None)
        return gr.update(choices=[(title, name) for name, title in titles.items()], value=value)

    def receive(self, token: str, file: str) -> list[Any]:
        """Keep an archive; return an empty place for the next one, why it is refused, the menu, no task held out."""
        try:
            upload = add_archive(self.context.app_state, token, file)
        except InputError as problem:
            return [None, str(problem), gr.skip(), gr.skip()]
        return [None, "", self.menu(token, upload), []]

    def remove(self, token: str, upload: str, sure: bool) -> Any:
        """Delete the archive that is chosen, unless its visitor said no."""
        if not sure:
            return gr.skip()
        self.context.app_state.workspace.delete_upload(token, upload)
        return self.menu(token, None)

    def describe(self, token: str, suite: str, upload: str | None) -> list[Any]:
        """Return whether the controls are shown, what the archive holds, and the tasks that can be held out."""
        shown, removable = gr.update(visible=suite == OWN), gr.update(interactive=bool(upload))
        if suite != OWN:
            return [shown, removable, "", _choices(SUITES[suite].tasks if suite in SUITES else None)]
        try:
            contents = archive_contents(self.context.app_state, token, upload) if upload else None
        except InputError as problem:
            return [shown, removable, str(problem), gr.update(choices=[])]
        if contents is None:
            return [shown, removable, NONE, gr.update(choices=[], info=held_out_info(None))]
        if contents.tasks:
            return [shown, removable, str(contents), gr.update(choices=contents.tasks, info=held_out_info(None))]
        return [shown, removable, str(contents), _choices(TEN_TRANSFORMS)]


def upload_panel(context: Context) -> UploadPanel:
    """Lay out the controls of own images."""
    with gr.Column(visible=False, elem_classes="own-images") as group:
        archive = gr.File(label="Zip of task/class/image or class/image", file_types=[".zip"], height=120)
        refused = Message(kind="error")
        chosen = gr.Dropdown(
            [],
            value=None,
            label="Uploaded archives",
            info=limits_text(context.app_state),
            allow_custom_value=True,  # a server that was restarted has no choices until the page is loaded again
        )
        delete = gr.Button("Delete archive", size="sm", interactive=False)
        contents = Message()
    return UploadPanel(context, group, archive, refused, chosen, delete, contents)


def wire(panel: UploadPanel, suite: gr.Dropdown, hold_out: gr.Dropdown) -> None:
    """Wire the events of own images, and the tasks that can be held out of any suite."""
    token, chosen = panel.context.visitor, panel.chosen
    outputs = [panel.group, panel.delete, panel.contents, hold_out]
    gr.on([suite.change, chosen.change], panel.describe, [token, suite, chosen], outputs, **QUIET)
    # Tasks of another suite; in the browser, since an answer of the server may come after the next choice.
    gr.on([suite.input, chosen.input], None, None, hold_out, js="() => []", **QUIET)
    received = [panel.archive, panel.refused, chosen, hold_out]
    panel.archive.upload(panel.receive, [token, panel.archive], received, **PRIVATE)
    sure = gr.Checkbox(visible="hidden", show_label=False)
    # "multiple", as for runs: see run_panel.py.
    panel.delete.click(
        show_errors(panel.remove), [token, chosen, sure], chosen, js=ASK, trigger_mode="multiple", **PRIVATE
    )
    panel.context.load(panel.menu, [token, chosen], chosen, **QUIET)


def _choices(tasks: TaskList | None) -> Any:
    return gr.update(choices=list(tasks.names) if tasks else [], info=held_out_info(tasks))


def held_out_info(tasks: TaskList | None) -> str:
    """Explain what held out means, and what holds without a choice; None: tasks that are folders."""
    which = "no task is"
    if tasks is not None:
        few = len(tasks.unseen) < 5
        which = ", ".join(tasks.unseen) if few else f"{len(tasks.unseen)} of {len(tasks.names)}"
    return f"Not trained on, measured at the end. None chosen: {which}."
