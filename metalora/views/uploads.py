"""What the app shows of a visitor's uploaded archives."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metalora.runs.uploads import MB, Upload
from metalora.suites.archives import check_archive, list_images
from metalora.suites.config import SuiteConfig
from metalora.suites.labelled import judge_names
from metalora.views.app_state import MAX_AGE, AppState


@dataclass(frozen=True)
class Contents:
    """What an archive's directory tells.

    Attributes:
        images: number of images.
        tasks: names of the task folders; none where class folders lie at the top.
        notes: sentences on what is guessed, left out or not read.
    """

    images: int
    tasks: list[str]
    notes: list[str]

    def __str__(self) -> str:
        tasks = len(self.tasks)
        layout = f"in {tasks} tasks" if tasks else "in class folders, to which ten transforms are applied"
        count = f"{self.images:,} image{'s' if self.images > 1 else ''}"
        return " ".join([f"{count} {layout}.", *self.notes])


def add_archive(app_state: AppState, visitor: str, file: str | Path) -> str:
    """Keep an archive that the server received, if its names make a suite; return its id.

    Raises:
        InputError: it is no zip archive of images, its images make no suite, or the visitor has no room for it.
    """
    _judge(Path(file))
    return app_state.workspace.add_upload(visitor, file, str(file))


def archive_contents(app_state: AppState, visitor: str, upload: str) -> Contents:
    """Return what is in a visitor's upload.

    Raises:
        InputError: there is none, it is another visitor's, or its images make no suite.
    """
    return _judge(app_state.workspace.upload(visitor, upload))


def _judge(file: Path) -> Contents:
    names = check_archive(file)
    tasks, notes = judge_names(names, SuiteConfig(f"folder:{file.name}"))
    return Contents(len(names), tasks, [*notes, *list_images(file).notes])


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
        f"Up to {workspace.max_uploads} archives and {workspace.max_bytes // MB} MB in all: at the limit, delete one "
        f"before you send another. What is not used for {MAX_AGE.days} days is deleted; runs keep a copy of theirs."
    )
