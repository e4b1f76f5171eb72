"""What the app shows of a visitor's uploaded archives, and what training on one amounts to."""

import functools
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from metalora.evaluation.accuracy import fitting_ks, usable_ks
from metalora.runs.run_config import RunConfig
from metalora.runs.uploads import MB, Upload
from metalora.suites.archive_limits import check_archive, check_members
from metalora.suites.archives import list_images
from metalora.suites.config import SuiteConfig
from metalora.suites.labelled import judge_names, outline
from metalora.suites.suite import Suite
from metalora.util.errors import InputError
from metalora.views.app_state import MAX_AGE, AppState

UPLOADED = "upload:"  # begins the name of a suite that a visitor uploaded


@dataclass(frozen=True)
class Contents:
    """What an archive's directory tells.

    Attributes:
        images: number of images.
        classes: number of classes.
        tasks: names of the task folders; none where class folders lie at the top.
        splits: number of images of each split, with the suite's own tasks held out.
        ks: K of k-NN that suit the size of its galleries.
        notes: sentences on what is guessed, left out or not read.
    """

    images: int
    classes: int
    tasks: list[str]
    splits: dict[str, int]
    ks: tuple[int, ...]
    notes: list[str]

    def __str__(self) -> str:
        tasks = f"{_count(len(self.tasks), 'task')}, " if self.tasks else ""
        shown = "" if self.tasks else ", each image shown through ten transforms"
        splits = self.splits
        divided = (
            f"{splits['train']} to train on, {splits['validation']} for validation, {splits['seen gallery']} for the "
            f"gallery, {splits['seen query']} as queries"
        )
        ks = " and ".join(map(str, self.ks))
        count = f"{_count(self.images, 'image')} in {tasks}{_count(self.classes, 'class', 'classes')}{shown}"
        return " ".join([f"{count}: {divided}. K = {ks}.", *self.notes])


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def add_archive(app_state: AppState, visitor: str, file: str | Path | None) -> str:
    """Keep an archive that the server received, if its names make a suite; return its id.

    Raises:
        InputError: it is no zip archive of images, some of it cannot be read, its images make no suite, or the visitor
            has no room for it.
    """
    if not file:
        raise InputError("There is no file: send a zip archive of images.")
    _judge(Path(file))
    check_members(Path(file))
    return app_state.workspace.add_upload(visitor, file, str(file))


def archive_contents(app_state: AppState, visitor: str, upload: str) -> Contents:
    """Return what is in a visitor's upload.

    Raises:
        InputError: there is none, it is another visitor's, or its images make no suite.
    """
    return _judge(app_state.workspace.upload(visitor, upload))


def _judge(file: Path) -> Contents:
    names, config = check_archive(file), SuiteConfig(f"folder:{file.name}")
    tasks, notes = judge_names(names, config)
    suite = outline(names, config, 0)
    splits = {split: len(examples.index.unique()) for split, examples in suite.splits.items()}
    notes = [*notes, *list_images(file).notes]
    return Contents(len(names), len(suite.classes), tasks, splits, fitting_ks(suite), notes)


def fit_ks(app_state: AppState, visitor: str, config: RunConfig, *, chosen: bool) -> RunConfig:
    """Return the settings with Ks that the galleries of an uploaded archive allow; of other suites, the same settings.

    Args:
        app_state: where the archive is.
        visitor: its owner.
        config: settings of a run.
        chosen: the Ks were chosen by a person; they are checked, not changed.

    Raises:
        InputError: there is no such archive of this visitor, its images make no suite with these settings, or none of
            the chosen Ks can be used.
    """
    if not config.suite.name.startswith(UPLOADED):
        return config
    file = app_state.workspace.upload(visitor, config.suite.name.removeprefix(UPLOADED))
    suite = _outline(file, replace(config.suite, name=f"folder:{file.name}"), config.training.seed)
    if chosen:
        usable_ks(suite, config.ks)
        return config
    return replace(config, ks=fitting_ks(suite))


@functools.lru_cache(16)
def _outline(file: Path, config: SuiteConfig, seed: int) -> Suite:
    """Build the suite of an archive without its pixels; files of uploads never change."""
    return outline(check_archive(file), config, seed)


def upload_titles(app_state: AppState, visitor: str) -> dict[str, str]:
    """Return the visitor's uploads, those used last first, id → title for a menu."""
    return {upload.id: _title(upload) for upload in app_state.workspace.uploads(visitor)}


def _title(upload: Upload) -> str:
    used_at = f"{datetime.fromtimestamp(upload.used_at):%Y-%m-%d %H:%M}"
    return f"{upload.name}, {max(0.1, upload.size / MB):.1f} MB, used {used_at}"


def list_uploads(app_state: AppState, visitor: str) -> list[dict[str, Any]]:
    """Return the visitor's uploads for programs, those used last first, each {upload, name, bytes}."""
    return [
        {"upload": upload.id, "name": upload.name, "bytes": upload.size}
        for upload in app_state.workspace.uploads(visitor)
    ]


def limits_text(app_state: AppState) -> str:
    """Say how many uploads a visitor may have, and when they are deleted."""
    workspace = app_state.workspace
    return (
        f"Up to {workspace.max_uploads} archives, {workspace.max_bytes // MB} MB in all. An archive that is not used "
        f"for {MAX_AGE.days} days is deleted; runs keep their own copy."
    )
