"""Carrying a run out: from its settings, or from wherever its folder stands, to its result."""

import contextlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch

from metalora.evaluation.accuracy import accuracy, check_galleries, embed_splits, measure, validation_accuracy
from metalora.evaluation.embedding import EmbedConfig
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import image_size_for, load_backbone
from metalora.models.loading import restore
from metalora.runs.failures import reason_of
from metalora.runs.run_log import EVENTS, logged
from metalora.suites.suite import Suite
from metalora.training.fit import fit
from metalora.training.loop import Progress
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.util.files import write_text
from metalora.util.processes import process
from metalora.version import __version__

if TYPE_CHECKING:
    from metalora.runs.run_config import RunConfig

SETTINGS, CHECKPOINT, ADAPTER, RESULT, STOP = "run.json", "checkpoint.safetensors", "adapter", "result.json", "stop"
ENDED = ("stopped", "failed", "finished")
FORMAT_VERSION = 2


class Run:
    """A run in its folder; made by `create_run` and `open_run`.

    Attributes:
        status: "new", "queued", "running" (its worker lives), "stopped", "failed" or "finished".
        reason: why it failed, one sentence.
        died: its worker ended without recording how.
        replaces: the folder holds a failed run of other settings, which is deleted when this one starts.
        skipped: (name, reason) of pictures that could not be used, known once the suite is read.
    """

    def __init__(
        self,
        folder: Path,
        config: "RunConfig",
        status: str = "new",
        *,
        reason: str | None = None,
        replaces: bool = False,
    ):
        self.folder, self.config, self.status, self.reason, self.replaces = folder, config, status, reason, replaces
        self.died = False
        self.skipped: tuple[tuple[str, str], ...] = ()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "finished" and (self.folder / RESULT).is_file()

    @property
    def result(self) -> dict[str, Any]:
        """What a finished run found: "validation", "rows" of k-NN accuracies, parameters, notes."""
        return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))

    @property
    def stop_requested(self) -> bool:
        """Whether somebody wants it to stop; whoever executes it looks after every step."""
        return (self.folder / STOP).exists()

    def request_stop(self) -> None:
        """Leave word for whoever executes it, in whichever process, to stop after the step at hand."""
        (self.folder / STOP).touch()

    def enqueue(self) -> None:
        """Say in its folder that it is to be trained, as `python -m metalora train --run FOLDER` does, without options.

        Raises:
            InputError: it is finished or being trained, or the disk refuses.
        """
        self._refuse_if_busy()
        if self.finished:
            raise InputError("This run is finished: start a new one.")
        self._clear_for_start()
        self.record("queued")

    def record(self, status: str, reason: str | None = None) -> None:
        """Write how it stands; for those who watch its worker.

        Raises:
            InputError: the disk refuses.
        """
        versions = {
            "metalora": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        }
        content = {
            "format_version": FORMAT_VERSION,
            "status": status,
            **({"reason": reason} if reason else {}),
            **({"worker": process()} if status == "running" else {}),
            "seed": self.config.training.seed,
            "versions": versions,
            "settings": self.config.to_dict(),
        }
        write_text(self.folder / SETTINGS, json.dumps(content, indent=1) + "\n")
        self.status, self.reason, self.died = status, reason, False
        if status in ENDED:
            (self.folder / STOP).unlink(missing_ok=True)

    def execute(self, pictures: Callable[[int, int | None], None] | None = None) -> Iterator[Progress]:
        """Train from wherever the folder stands to the end, yielding progress after every step.

        Leaving early (closing the generator, Ctrl-C) saves a checkpoint, and between two steps the adapter as well.

        Args:
            pictures: called while the suite is read, see `load_suite`.

        Raises:
            InputError: another process trains it; the suite, backbone or settings do not serve; or the loss is
                not finite any more.
        """
        if self.finished:
            return
        self._refuse_if_busy()
        if self.status == "queued":  # what goes wrong from here on is recorded: somebody waits for it
            self.record("running")
        try:
            suite, model, notes = self._build(pictures)
            if self.status != "running":
                self._clear_for_start()
                self.record("running")
            torch.manual_seed(self.config.training.seed)  # of dropout; a checkpoint overrides it
            yield from self._train(model, suite)
            self._finish(model, suite, notes)
        except (KeyboardInterrupt, GeneratorExit):
            self._record_end("stopped")
            raise
        except Exception as error:
            self._record_end("failed", reason_of(error))
            raise

    def _refuse_if_busy(self) -> None:
        if self.status == "running":
            raise InputError("This run is being trained already: wait for its end, or stop it.")

    def _clear_for_start(self) -> None:
        (self.folder / STOP).unlink(missing_ok=True)
        if self.replaces:
            shutil.rmtree(self.folder / ADAPTER, ignore_errors=True)
            for name in (EVENTS, CHECKPOINT, RESULT):
                (self.folder / name).unlink(missing_ok=True)
            self.replaces = False

    def _record_end(self, status: str, reason: str | None = None) -> None:
        if self.status != "running":
            return  # it never started, and leaves no trace
        # A full disk refuses this too; who watches the worker finds it gone, and the sentence in its log.
        with contextlib.suppress(InputError):
            self.record(status, reason)

    def _train(self, model: AdaptedModel, suite: Suite) -> Iterator[Progress]:
        between = False
        try:
            with (
                contextlib.closing(
                    fit(model, suite, self.config.training, checkpoint=self.folder / CHECKPOINT)
                ) as steps,
                contextlib.closing(logged(steps, self.folder)) as events,
            ):
                for event in events:
                    between = True
                    yield event
                    between = False
        except (KeyboardInterrupt, GeneratorExit):
            if between:
                model.save(self.folder / ADAPTER)
            raise

    def _build(self, pictures: Callable | None) -> tuple[Suite, AdaptedModel, list[str]]:
        config = self.config
        pick_device(config.training.device)
        size = None if config.suite.image_size is None else image_size_for(config.backbone, config.suite.image_size)
        load_backbone(config.backbone, image_size=size, download=config.suite.download)  # a wrong name is told at once
        suite = config.suite.load(config.training.seed, pictures)
        notes = [*check_galleries(suite, config.ks), *suite.notes]
        size = image_size_for(config.backbone, suite.image_size)
        backbone = load_backbone(config.backbone, image_size=size, download=config.suite.download)
        model = adapt(backbone, config.adapter, download=config.suite.download)
        if not model.layers:
            raise InputError("The original backbone has nothing to train: choose another method.")
        if config.start is not None:
            restore(model, config.start)
            if config.adapter.factors and not config.adapter.predicts(config.suite.factors):
                notes.append("The adapter's code names factors that this suite lacks: it was trained by classes alone.")
        self.skipped = suite.skipped
        return suite, model, notes

    def _finish(self, model: AdaptedModel, suite: Suite, notes: list[str]) -> None:
        model.save(self.folder / ADAPTER)
        result = {**evaluate(model, suite, self.config.embed_config, self.config.ks), "notes": notes}
        write_text(self.folder / RESULT, json.dumps(result, indent=1) + "\n")
        self.record("finished")
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def evaluate(model: AdaptedModel, suite: Suite, embed_config: EmbedConfig, ks: tuple[int, ...]) -> dict[str, Any]:
    """Validation and k-NN accuracies on seen and unseen tasks, both galleries, and the budget; plain values."""
    features = embed_splits(model, suite, embed_config)
    rows = [
        {**place, "accuracy": accuracy(predicted, queries)}
        for place, queries, predicted in measure(suite, features, ks)
    ]
    total = model.budget().loc["total"]
    return {
        "suite": suite.name,
        "backbone": model.backbone.name,
        "method": model.config.method,
        "set_size": embed_config.set_size,
        "primary": suite.primary,
        "validation": validation_accuracy(suite, features),
        "rows": rows,
        "static_parameters": int(total["adapter_parameters"]),
        "generator_parameters": int(total["generator_parameters"]),
    }
