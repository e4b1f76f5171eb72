"""What an app works with: the visitors' workspace, what executes their runs, and open adapters."""

import functools
import os
import threading
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.models.bundled import NAMES, bundled_folder, parse_bundled
from metalora.models.loading import check_start, settings_of
from metalora.models.saving import WEIGHTS
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import ADAPTER, open_run
from metalora.runs.status import Backend
from metalora.runs.visitor_limits import server_limits
from metalora.runs.workspace import RUN, Workspace
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.util.files import write_whole
from metalora.util.paths import is_stray
from metalora.views.open_adapter import OpenAdapter, open_bundled, open_trained

MAX_AGE = timedelta(days=30)  # of uploads, exports, comparisons and inactive runs that are not used
PRUNE_EVERY = timedelta(minutes=15)
MAX_OPEN = 6  # adapters in memory of each kind, and suites
DEFAULT = "resnet20/metalora-tr/cifar10-corruptions"
SUITES = {  # that bundled adapters were trained on, in words
    "digits": "digits",
    "cifar10-corruptions": "corrupted photographs",
    "cifar10-compositions": "rotated and recoloured photographs",
}


class AppState:
    """One app's workspace, back end and open adapters.

    Args:
        root: folder of the workspace, the only place that is written to.
        backend: builds, from the workspace, what executes runs: worker processes, or the events themselves.
    """

    def __init__(self, root: str | Path, backend: Callable[[Workspace], Backend] = RunQueue):
        self.workspace = Workspace(root, max_disk=server_limits().disk_gb * 10**9)
        self.workspace.prune(MAX_AGE)
        self.backend = backend(self.workspace)
        cache = functools.lru_cache(MAX_OPEN)
        load_cached = cache(lambda config, seed: load_suite(config, seed=seed))
        self._open_bundled = cache(lambda name: open_bundled(name, load_cached))
        self._open_trained = cache(lambda folder, changed_at: open_trained(folder, load_cached))

    def prune_regularly(self) -> threading.Event:
        """Delete old files again and again, until the process ends or the event that is returned is set."""
        return self.workspace.prune_regularly(MAX_AGE, PRUNE_EVERY)

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """Return `function(self, …)` without its first argument, executed where the back end computes."""
        return self.backend.wrap_for_gpu(functools.partial(function, self))

    def knows(self, token: str) -> bool:
        """Return whether this is a visitor's token."""
        try:
            self.workspace.folder(token)
        except InputError:
            return False
        return True

    def ensure_visitor(self, token: str | None) -> str:
        """Return the visitor's token: theirs, or a new one where they have none."""
        return token if token and self.knows(token) else self.workspace.new_visitor()

    def bundled_adapters(self) -> dict[str, str]:
        """Return the bundled adapters, name → title."""
        titles = {}
        for name in NAMES:
            if (bundled_folder(name) / WEIGHTS).exists():
                backbone, method_name, suite = NAMES[name]
                titles[name] = f"{method(method_name).title} on {backbone}, {SUITES[suite]} (bundled)"
        return titles

    def adapters(self, visitor: str) -> dict[str, str]:
        """Return the adapters that can be opened, name → title: the bundled ones, then those of the visitor's runs."""
        runs = {run: title for run, title in self.runs(visitor).items() if self.has_adapter(visitor, run)}
        return self.bundled_adapters() | {f"{RUN}{run}": title for run, title in runs.items()}

    def has_adapter(self, visitor: str, run: str) -> bool:
        """Check whether a visitor's run has an adapter, trained to the end or stopped."""
        return (self.workspace.run_folder(visitor, run) / ADAPTER / WEIGHTS).exists()

    def runs(self, visitor: str) -> dict[str, str]:
        """Return the visitor's runs, newest first, id → title; that of a damaged one says so."""
        return {run: self._title(visitor, run) for run in self.workspace.runs(visitor)}

    def _title(self, visitor: str, run: str) -> str:
        try:
            opened = open_run(self.workspace.run_folder(visitor, run))
            return opened.name or run_title(run, opened.config)
        except InputError:  # which the page of the run shows
            return run_title(run, None)

    def run_name(self, visitor: str, run: str) -> str:
        """Return what a visitor calls a run of theirs; "" without a name, or where it is damaged.

        Raises:
            InputError: there is no such run of this visitor.
        """
        folder = self.workspace.run_folder(visitor, run)
        try:
            return open_run(folder).name
        except InputError:
            return ""

    def config(self, visitor: str, run: str) -> RunConfig:
        """Return the settings of a visitor's run.

        Raises:
            InputError: there is no such run of this visitor.
        """
        return open_run(self.workspace.run_folder(visitor, run)).config

    def zip_adapter(self, visitor: str, run: str) -> Path:
        """Return a run's adapter as one zip file, which is written unless it is there and up to date.

        Raises:
            InputError: there is no such run of this visitor, it has no adapter yet, or the disk refuses.
        """
        adapter = self.workspace.adapter_folder(visitor, f"{RUN}{run}")
        file = adapter.with_name(f"{adapter.name}.zip")
        parts = sorted(part for part in adapter.iterdir() if part.is_file() and not is_stray(part.name))
        changed_at = max(part.stat().st_mtime_ns for part in parts)

        def write(temporary: Path) -> None:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for part in parts:
                    archive.write(part, part.name)
            os.utime(temporary, ns=(changed_at, changed_at))  # a change while it is written makes it out of date

        if not file.exists() or file.stat().st_mtime_ns != changed_at:
            write_whole((file, write))
        return file

    def open(self, visitor: str, name: str | None = None) -> OpenAdapter:
        """Open an adapter by its name in `adapters`.

        Raises:
            InputError: there is none of that name for this visitor, or it is damaged.
        """
        name = name or DEFAULT
        if not name.startswith(RUN):
            return self._open_bundled(name)
        adapter = self.workspace.adapter_folder(visitor, name)
        return self._open_trained(adapter.parent, (adapter / WEIGHTS).stat().st_mtime_ns)

    def static_twin(self, visitor: str, name: str) -> str | None:
        """Return the name of the LoRA that was trained on the backbone and suite of an adapter; None: there is none.

        Raises:
            InputError: there is no adapter of this name for this visitor.
        """
        if name.startswith(RUN):
            config = self.config(visitor, name.removeprefix(RUN))
            runs = (f"{RUN}{run}" for run in self.runs(visitor) if self.has_adapter(visitor, run))
            candidates = {twin: self.config(visitor, twin.removeprefix(RUN)) for twin in runs}
            same = (config.backbone, config.suite)
            twins = [t for t, c in candidates.items() if (c.backbone, c.suite) == same and c.adapter.method == "lora"]
            return next(iter(twins), None)
        twin = str(parse_bundled(name)._replace(method="lora"))
        return twin if (bundled_folder(twin) / WEIGHTS).exists() else None

    def start_settings(self, visitor: str, name: str) -> tuple[str | None, AdapterConfig]:
        """Return backbone and settings of an adapter to start from.

        Raises:
            InputError: there is none of that name for this visitor, or it is damaged.
        """
        return settings_of(self.workspace.adapter_folder(visitor, name))

    def check_start(self, visitor: str, config: RunConfig) -> None:
        """Check that a run of these settings can start from the adapter that they name, if any.

        Raises:
            InputError: it cannot, or there is none of that name for this visitor.
        """
        if config.start:
            folder = self.workspace.adapter_folder(visitor, config.start)
            check_start(folder, config.backbone, config.adapter, self.adapters(visitor).get(config.start))


def suite_title(name: str) -> str:
    """Return the name of a suite for a list, that of uploaded images without the server's path."""
    kind, colon, _ = name.partition(":")
    return "own images" if colon else kind


def run_title(run: str, config: RunConfig | None) -> str:
    """Describe a run without a name for a list: method, rank, steps, data, when; or that it cannot be read."""
    date, time = run.split("-")[:2]
    when = f"{date[6:]}.{date[4:6]}. {time[:2]}:{time[2:4]}"
    if config is None:
        return f"The run of {when} cannot be read"
    title, suite = method(config.adapter.method).title, suite_title(config.suite.name)
    return f"{title}, rank {config.adapter.rank}, {config.training.steps} steps, {suite}, {config.backbone}, {when}"
