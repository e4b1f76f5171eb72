"""Everything an app writes, in one folder, and each visitor's part of it.

tables/NAME                  tables of bundled results, for everybody's download
visitors/HASH/runs/RUN       a run's folder, see runs.py
visitors/HASH/uploads/ID     one file, under the name that its owner gave it
visitors/HASH/comparisons/SUITE   cells of the visitor's comparisons on a suite, and the last table

A visitor is whoever holds a token; the disk knows its SHA-256 only. Ids from outside are held against a pattern before
they touch a path, and looked for in their visitor's own folder: nobody reaches another's, nor anything else.
"""

import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from metalora.models.bundled import bundled_folder
from metalora.models.saving import WEIGHTS
from metalora.runs.run import ADAPTER, SETTINGS, Run
from metalora.runs.run_config import RunConfig
from metalora.runs.store import open_run
from metalora.runs.visitor_limits import check_limits
from metalora.util.errors import InputError

TOKEN, RUN_ID, UPLOAD_ID = r"[\w-]{32}", r"\d{8}-\d{6}-\d{6}-[0-9a-f]{16}", r"[0-9a-f]{24}"
RUN = "run:"  # begins the name of an adapter that a visitor trained
SUITE = r"[a-z][a-z0-9_-]{0,39}"
MOST_UPLOADS = 20  # of a visitor
MOST_BYTES = 512 * 2**20  # of a visitor's uploads together
MOST_RUNS = 50  # of a visitor
LONGEST_NAME = 60  # letters


class Workspace:
    """The folder of an app.

    Args:
        root: the folder; made where it is missing, readable for its owner only.
        most_uploads: of a visitor.
        most_bytes: of a visitor's uploads together.
        most_runs: of a visitor.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        most_uploads: int = MOST_UPLOADS,
        most_bytes: int = MOST_BYTES,
        most_runs: int = MOST_RUNS,
    ):
        self.root = Path(root).absolute()
        self.most_uploads, self.most_bytes, self.most_runs = most_uploads, most_bytes, most_runs
        self._lock = threading.Lock()  # between counting a visitor's things and adding one
        self._visitors.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def _visitors(self) -> Path:
        return self.root / "visitors"

    def new_visitor(self) -> str:
        """A token that nobody can guess; its holder owns what is made with it. Nothing is written."""
        return secrets.token_urlsafe(24)

    def folder(self, visitor: str) -> Path:
        """The folder of the visitor who holds this token, which may not exist yet.

        Raises:
            InputError: this is no token.
        """
        if not isinstance(visitor, str) or not re.fullmatch(TOKEN, visitor, re.ASCII):
            raise InputError("This page has lost its visitor's id: reload it.")
        return self._visitors / hashlib.sha256(visitor.encode()).hexdigest()

    def prepare_run(self, visitor: str, config: RunConfig) -> str:
        """A new run's id; its folder holds the settings, and a copy of the upload that it needs. Nothing starts yet.

        Args:
            config: its suite "upload:ID" is the visitor's upload, its start a name as in `adapter_folder`;
                "folder:PATH" is refused: paths belong to the server.

        Raises:
            InputError: there is no such upload, a setting is above `LIMITS`, the visitor has too many runs, or the
                disk refuses.
        """
        check_limits(config)
        runs, source = self.folder(visitor) / "runs", self._source(visitor, config)
        start = self._start(visitor, config)
        with self._lock:
            if len(self.runs(visitor)) >= self.most_runs:
                raise InputError(f"You have {self.most_runs} runs, which is the most: delete one first.")
            run_id = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(8)}"
            folder = runs / run_id
            if source is not None:
                own = folder / "upload" / source.name
                _fill(own.parent, lambda: _link(source, own))
                config = _with_pictures(config, own)
            if start is not None:  # a copy, since the run that it is of may be deleted, or trained further
                own = folder / "start"
                _fill(own, lambda: shutil.copytree(start, own, dirs_exist_ok=True))
                config = replace(config, start=str(own))
            Run(folder, config).record("new")
        return run_id

    def resolve(self, visitor: str, config: RunConfig) -> RunConfig:
        """These settings with the server's paths in place of names, for an estimate or a look at the suite.

        Raises:
            InputError: as `prepare_run`.
        """
        check_limits(config)
        source = self._source(visitor, config)
        start = self._start(visitor, config)
        config = config if start is None else replace(config, start=str(start))
        return config if source is None else _with_pictures(config, source)

    def _start(self, visitor: str, config: RunConfig) -> Path | None:
        """Where the visitor's adapter lies that a run goes on from; None: it is a bundled one, or there is none."""
        if config.start is None:
            return None
        folder = self.adapter_folder(visitor, config.start)
        return folder if config.start.startswith(RUN) else None

    def _source(self, visitor: str, config: RunConfig) -> Path | None:
        kind, colon, name = config.suite.name.partition(":")
        if kind == "upload":
            return self.upload(visitor, name)
        if colon:
            raise InputError("Pictures of your own come as a zip archive: upload it, then choose it.")
        return None

    def adapter_folder(self, visitor: str, name: str) -> Path:
        """The folder of an adapter: "run:ID" is of the visitor's run, any other name a bundled one's.

        Raises:
            InputError: there is none of that name, or the run has none yet.
        """
        if not name.startswith(RUN):
            return bundled_folder(name)
        folder = self.run_folder(visitor, name.removeprefix(RUN)) / ADAPTER
        if not (folder / WEIGHTS).exists():
            raise InputError("This run has no adapter yet: wait until it is finished, or stop it.")
        return folder

    def run_folder(self, visitor: str, run_id: str) -> Path:
        """The folder of a visitor's run.

        Raises:
            InputError: there is none, or it is somebody else's; which of the two is not told.
        """
        return self._find(visitor, "runs", RUN_ID, run_id, "There is no such run of yours: choose one of the list.")

    def runs(self, visitor: str) -> list[str]:
        """Ids of the visitor's runs, newest first."""
        runs = self.folder(visitor) / "runs"
        return sorted((path.parent.name for path in runs.glob(f"*/{SETTINGS}")), reverse=True)

    def all_runs(self) -> list[Path]:
        """Folders of all visitors' runs, oldest first; for the queue."""
        return sorted((file.parent for file in self._visitors.glob(f"*/runs/*/{SETTINGS}")), key=lambda path: path.name)

    def delete_run(self, visitor: str, run_id: str) -> None:
        """Delete a visitor's run.

        Raises:
            InputError: there is no such run of this visitor, or it is queued or being trained.
        """
        folder = self.run_folder(visitor, run_id)
        if _in_use(folder):
            raise InputError("This run is not over: stop it first.")
        shutil.rmtree(folder)

    def add_upload(self, visitor: str, file: str | Path, name: str) -> str:
        """Keep a copy of a file that the server received; its id.

        Args:
            file: where the server put it. Never a path that came from outside.
            name: what its owner calls it; only harmless letters of it are kept.

        Raises:
            InputError: the visitor has too many uploads or too large ones, or the disk refuses.
        """
        uploads, size = self.folder(visitor) / "uploads", Path(file).stat().st_size
        upload_id = secrets.token_hex(12)
        with self._lock:
            held = [path.stat().st_size for path in uploads.glob("*/*")]
            if len(held) >= self.most_uploads:
                raise InputError(f"You have {self.most_uploads} uploads, which is the most: delete one first.")
            if sum(held) + size > self.most_bytes:
                raise InputError(f"Your uploads would exceed {self.most_bytes // 2**20} MB: send a smaller file.")
            folder = uploads / upload_id
            _fill(folder, lambda: shutil.copyfile(file, folder / _harmless(name)))
        return upload_id

    def upload(self, visitor: str, upload_id: str) -> Path:
        """The file of a visitor's upload.

        Raises:
            InputError: there is none, or it is somebody else's; which of the two is not told.
        """
        gone = "There is no such upload of yours: upload the file again."
        return next(self._find(visitor, "uploads", UPLOAD_ID, upload_id, gone).iterdir())

    def delete_upload(self, visitor: str, upload_id: str) -> None:
        """Delete a visitor's upload; runs made with it keep theirs.

        Raises:
            InputError: there is none, or it is somebody else's.
        """
        shutil.rmtree(self.upload(visitor, upload_id).parent)

    def uploads(self, visitor: str) -> dict[str, str]:
        """The visitor's uploads: id → name of the file."""
        return {path.parent.name: path.name for path in sorted((self.folder(visitor) / "uploads").glob("*/*"))}

    def comparison_folder(self, visitor: str, suite: str) -> Path:
        """Where the visitor's comparisons on a suite are kept, which may not exist yet.

        Raises:
            InputError: this is no token, or no name of a suite.
        """
        if not isinstance(suite, str) or not re.fullmatch(SUITE, suite, re.ASCII):
            raise InputError("There is no such suite for a comparison: choose one of the list.")
        return self.folder(visitor) / "comparisons" / suite

    def tables_folder(self, name: str) -> Path:
        """Where the tables of bundled results lie for download, the same for all visitors.

        Raises:
            InputError: this is no name of results.
        """
        if not isinstance(name, str) or not re.fullmatch(SUITE, name, re.ASCII):
            raise InputError("There are no such results: choose some of the list.")
        return self.root / "tables" / name

    def prune(self, older_than: timedelta) -> int:
        """Delete uploads, and runs that are over, which nobody touched for so long; how many there were."""
        limit = datetime.now().timestamp() - older_than.total_seconds()
        old = [path for path in self._visitors.glob("*/*/*") if not _in_use(path) and _touched(path) < limit]
        for path in old:
            shutil.rmtree(path)
        return len(old)

    def _find(self, visitor: str, kind: str, pattern: str, name: str, gone: str) -> Path:
        whole = isinstance(name, str) and re.fullmatch(pattern, name, re.ASCII)
        folder = self.folder(visitor) / kind / name if whole else None
        if folder is None or not folder.is_dir():
            raise InputError(gone)
        return folder


def _with_pictures(config: RunConfig, archive: Path) -> RunConfig:
    return replace(config, suite=replace(config.suite, name=f"folder:{archive}"))


def _fill(folder: Path, write: Callable[[], object]) -> None:
    """Fill a folder, or leave none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"The upload cannot be kept ({error.strerror}): try again later.") from error


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, or a copy where the disk knows no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _harmless(name: str) -> str:
    """The last part of a file's name without anything but letters, digits, dots and dashes."""
    last = re.sub(r"[^\w.-]+", "_", str(name).replace("\\", "/").rpartition("/")[2]).lstrip(".")
    return last[-LONGEST_NAME:] or "upload"


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _in_use(folder: Path) -> bool:
    """Whether it is a run that is queued or being trained."""
    if folder.parent.name != "runs":
        return False
    try:
        return open_run(folder).status in ("queued", "running")
    except InputError:  # not even a run: damaged, or half written
        return False
