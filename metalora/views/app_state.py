"""What an app works with: visitors' workspace, what carries their runs out, and adapters that are open."""

import functools
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.experiments.table import format_percent
from metalora.inspection.gallery import Gallery, build_gallery, load_gallery
from metalora.models.adapted_model import AdaptedModel
from metalora.models.bundled import NAMES, bundled_folder
from metalora.models.loading import check_start, load, settings_of
from metalora.models.saving import WEIGHTS
from metalora.runs.bundled_adapters import GALLERY, GALLERY_IMAGES, read_card, read_planes
from metalora.runs.queue import RunQueue
from metalora.runs.run import ADAPTER
from metalora.runs.run_config import RunConfig
from metalora.runs.status import Backend
from metalora.runs.store import open_run
from metalora.runs.workspace import RUN, Workspace
from metalora.suites.config import SuiteConfig
from metalora.suites.suite import Suite
from metalora.util.errors import InputError
from metalora.util.files import write_whole

KEPT = timedelta(days=30)  # of uploads and runs that nobody touches
OPEN = 6  # adapters that stay in memory
DEFAULT = "resnet20/metalora-tr"


@dataclass(frozen=True, eq=False)
class OpenAdapter:
    """A trained adapter with the gallery that it is looked at beside.

    Attributes:
        planes: the gallery on a plane, space → (G, 2), where that was computed before.
    """

    config: RunConfig
    model: AdaptedModel
    gallery: Gallery
    planes: dict[str, Tensor]

    @property
    def title(self) -> str:
        """Method and backbone, in words."""
        return f"{method(self.config.adapter.method).title} on {self.config.backbone}"


class AppState:
    """One app's workspace and what happens in it.

    Args:
        root: folder of the workspace, the only place that is written to.
        backend: what carries runs out, made of the workspace: worker processes, or the events themselves.
    """

    def __init__(self, root: str | Path, backend: Callable[[Workspace], Backend] = RunQueue):
        self.workspace = Workspace(root)
        self.workspace.prune(KEPT)
        self.backend = backend(self.workspace)

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """`function(self, …)` without its first argument, carried out where the back end computes."""
        return self.backend.wrap_for_gpu(functools.partial(function, self))

    def ensure_visitor(self, token: str | None) -> str:
        """The visitor's token: theirs, or a new one where they have none."""
        try:
            self.workspace.folder(token or "")
        except InputError:
            return self.workspace.new_visitor()
        return token or ""

    def adapters(self, visitor: str) -> dict[str, str]:
        """Adapters that can be opened, name → title: the bundled ones, then those of the visitor's runs."""
        found = {}
        for name in NAMES:
            if (bundled_folder(name) / WEIGHTS).exists():
                backbone, kind = name.split("/")
                found[name] = f"{method(kind).title} on {backbone} (bundled)"
        return found | {f"{RUN}{run}": title for run, title in self.runs(visitor).items() if self.trained(visitor, run)}

    def trained(self, visitor: str, run: str) -> bool:
        """Whether a visitor's run has an adapter, trained to the end or stopped."""
        return (self.workspace.run_folder(visitor, run) / ADAPTER / WEIGHTS).exists()

    def runs(self, visitor: str) -> dict[str, str]:
        """The visitor's runs, newest first, id → title; that of a damaged one says so."""
        return {run: self._title(visitor, run) for run in self.workspace.runs(visitor)}

    def _title(self, visitor: str, run: str) -> str:
        try:
            return run_title(run, self.config(visitor, run))
        except InputError:  # which the page of the run tells
            return run_title(run, None)

    def config(self, visitor: str, run: str) -> RunConfig:
        """Settings of a visitor's run.

        Raises:
            InputError: there is no such run of this visitor.
        """
        return open_run(self.workspace.run_folder(visitor, run)).config

    def result(self, visitor: str, run: str) -> pd.DataFrame:
        """Accuracies of a finished run: columns tasks, gallery, K and accuracy in per cent, as text."""
        rows = pd.DataFrame(open_run(self.workspace.run_folder(visitor, run)).result["rows"])
        shown = rows.assign(accuracy=rows["accuracy"].map(format_percent))
        return shown.set_axis(["tasks", "gallery", "K", "accuracy in %"], axis=1)

    def packed(self, visitor: str, run: str) -> Path:
        """A run's adapter as one zip file, written where it is not there or the adapter has changed since.

        Raises:
            InputError: there is no such run of this visitor, it has no adapter yet, or the disk refuses.
        """
        adapter = self.workspace.adapter_folder(visitor, f"{RUN}{run}")
        file = adapter.with_name(f"{adapter.name}.zip")
        parts = sorted(part for part in adapter.iterdir() if not part.name.startswith("."))  # such is half written
        written = max(part.stat().st_mtime_ns for part in parts)

        def pack(temporary: Path) -> None:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for part in parts:
                    archive.write(part, part.name)
            os.utime(temporary, ns=(written, written))  # the age of what is in it, lest it pass for something newer

        if not file.exists() or file.stat().st_mtime_ns != written:
            write_whole((file, pack))
        return file

    def open(self, visitor: str, name: str | None = None) -> OpenAdapter:
        """An adapter by its name in `adapters`.

        Raises:
            InputError: there is none of that name for this visitor, or it is damaged.
        """
        name = name or DEFAULT
        if not name.startswith(RUN):
            return self._bundled(name)
        adapter = self.workspace.adapter_folder(visitor, name)
        return self._of_run(adapter.parent, (adapter / WEIGHTS).stat().st_mtime_ns)

    def start(self, visitor: str, name: str) -> tuple[str | None, AdapterConfig]:
        """Backbone and settings of an adapter to go on from.

        Raises:
            InputError: there is none of that name for this visitor, or it is damaged.
        """
        return settings_of(self.workspace.adapter_folder(visitor, name))

    def check_start(self, visitor: str, config: RunConfig) -> None:
        """See whether a run of these settings can go on from the adapter that it names.

        Raises:
            InputError: it cannot, or there is none of that name for this visitor.
        """
        if config.start:
            folder = self.workspace.adapter_folder(visitor, config.start)
            check_start(folder, config.backbone, config.adapter, self.adapters(visitor).get(config.start))

    @functools.lru_cache(OPEN)  # noqa: B019 - one laboratory for each app
    def _bundled(self, name: str) -> OpenAdapter:
        folder = bundled_folder(name)
        if not (folder / WEIGHTS).exists():
            raise InputError(f"The adapter {name} is not here: make it with `python -m metalora bundle {name}`.")
        config = RunConfig.from_dict(read_card(folder)["settings"])
        gallery = load_gallery(folder / GALLERY, self._suite(config.suite, config.training.seed))
        return OpenAdapter(config, load(folder), gallery, read_planes(folder))

    @functools.lru_cache(OPEN)  # noqa: B019
    def _of_run(self, folder: Path, written: int) -> OpenAdapter:
        config, model = open_run(folder).config, load(folder / ADAPTER)
        suite = self._suite(config.suite, config.training.seed)
        gallery = build_gallery(
            model, suite, limit=GALLERY_IMAGES, seed=config.training.seed, embed_config=config.embed_config
        )
        return OpenAdapter(config, model, gallery, {})

    @functools.lru_cache(OPEN)  # noqa: B019
    def _suite(self, config: SuiteConfig, seed: int) -> Suite:
        return config.load(seed)


def run_title(run: str, config: RunConfig | None) -> str:
    """A run in a list: when, what, where on; or that its settings cannot be read."""
    date, time = run.split("-")[:2]
    when = f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}"
    if config is None:
        return f"{when} cannot be read"
    return f"{when} {method(config.adapter.method).title} on {config.backbone}, {config.suite.name.split(':')[0]}"
