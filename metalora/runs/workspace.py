"""The one folder that an app writes to, and each visitor's part of it.

tables/NAME                  tables of bundled results, for everybody's download
visitors/HASH/runs/RUN       a run's folder, see run_folder.py
visitors/HASH/uploads/ID     one file, under the name that its owner gave it
visitors/HASH/comparisons/SUITE   jobs of the visitor's comparisons on a suite, and the last table

A visitor is identified by a token, of which the disk has only the SHA-256. Ids from outside are checked against a
pattern before they become part of a path, and looked up in their visitor's folder only, so that no visitor reaches
another's files, nor any others.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock

from metalora.models.bundled import bundled_folder
from metalora.models.saving import WEIGHTS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import ADAPTER, SETTINGS, RunFolder, RunState, open_run
from metalora.runs.visitor_limits import check_limits
from metalora.util.errors import InputError

TOKEN, RUN_ID, UPLOAD_ID = r"[\w-]{32}", r"\d{8}-\d{6}-\d{6}-[0-9a-f]{16}", r"[0-9a-f]{24}"
RUN = "run:"  # begins the name of an adapter that a visitor trained
SUITE = r"[a-z][a-z0-9_-]{0,39}"
MAX_NAME = 60  # letters


class Workspace:
    """The folder of an app.

    Args:
        root: the folder; created where it is missing, readable for its owner only.
        max_uploads: of a visitor, of which the oldest make room for new ones.
        max_bytes: of a visitor's uploads together.
        max_runs: of a visitor.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        max_uploads: int = 20,
        max_bytes: int = 512 * 2**20,
        max_runs: int = 50,
    ):
        self.root = Path(root).absolute()
        self.max_uploads, self.max_bytes, self.max_runs = max_uploads, max_bytes, max_runs
        self._visitors.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FileLock(self.root / ".lock")  # from counting a visitor's files to adding one

    @property
    def _visitors(self) -> Path:
        return self.root / "visitors"

    def new_visitor(self) -> str:
        """Return a token that nobody can guess; its holder owns what is made with it. Nothing is written."""
        return secrets.token_urlsafe(24)

    def folder(self, visitor: str) -> Path:
        """Return the folder of the visitor who holds this token, which may not exist yet.

        Raises:
            InputError: this is not a token.
        """
        if not isinstance(visitor, str) or not re.fullmatch(TOKEN, visitor, re.ASCII):
            raise InputError("This page has lost its visitor's id: reload it.")
        return self._visitors / hashlib.sha256(visitor.encode()).hexdigest()

    def prepare_run(self, visitor: str, config: RunConfig) -> str:
        """Create a run's folder with the settings and a copy of the upload that it needs; return its id.

        Args:
            visitor: token of the owner.
            config: its suite "upload:ID" is the visitor's upload, its start a name as in `adapter_folder`;
                "folder:PATH" is refused, since it would be a path of the server.

        Raises:
            InputError: there is no such upload, a setting is above `LIMITS`, the visitor has too many runs, or the
                disk refuses.
        """
        check_limits(config)
        runs, source = self.folder(visitor) / "runs", self._source(visitor, config)
        start = self._start(visitor, config)
        with self._lock:
            if len(self.runs(visitor)) >= self.max_runs:
                raise InputError(f"You have {self.max_runs} runs, which is the maximum: delete one first.")
            run_id = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(8)}"
            folder = runs / run_id
            if source is not None:
                copy = folder / "upload" / source.name
                _fill(copy.parent, lambda: _link(source, copy))
                config = _with_archive(config, copy)
            if start is not None:  # a copy, since its run may be deleted, or trained further
                copied = folder / "start"
                _fill(copied, lambda: shutil.copytree(start, copied, dirs_exist_ok=True))
                config = replace(config, start=str(copied))
            RunFolder(folder, config).record(RunState.NEW)
        return run_id

    def resolve(self, visitor: str, config: RunConfig) -> RunConfig:
        """Return these settings with the server's paths in place of names, for an estimate.

        Raises:
            InputError: as `prepare_run`.
        """
        check_limits(config)
        source = self._source(visitor, config)
        start = self._start(visitor, config)
        config = config if start is None else replace(config, start=str(start))
        return config if source is None else _with_archive(config, source)

    def _start(self, visitor: str, config: RunConfig) -> Path | None:
        """Return the folder of the visitor's adapter that a run starts from; None: a bundled one, or none."""
        if config.start is None:
            return None
        folder = self.adapter_folder(visitor, config.start)
        return folder if config.start.startswith(RUN) else None

    def _source(self, visitor: str, config: RunConfig) -> Path | None:
        kind, colon, name = config.suite.name.partition(":")
        if kind == "upload":
            return self.upload(visitor, name)
        if colon:
            raise InputError("Your own images come as a zip archive: upload it, then choose it.")
        return None

    def adapter_folder(self, visitor: str, name: str) -> Path:
        """Return the folder of an adapter: "run:ID" is that of the visitor's run, any other name is a bundled one's.

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
        """Return the folder of a visitor's run.

        Raises:
            InputError: there is none, or it is another visitor's; the message is the same.
        """
        return self._find(visitor, "runs", RUN_ID, run_id, "There is no such run of yours: choose one of the list.")

    def runs(self, visitor: str) -> list[str]:
        """Return the ids of the visitor's runs, newest first."""
        runs = self.folder(visitor) / "runs"
        return sorted((path.parent.name for path in runs.glob(f"*/{SETTINGS}")), reverse=True)

    def all_runs(self) -> list[Path]:
        """Return the folders of all visitors' runs, oldest first; for the queue."""
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
        """Keep a copy of a file that the server received; return its id. Old uploads are deleted to make room.

        Args:
            visitor: token of the owner.
            file: where the server saved it. Never a path that came from outside.
            name: what its owner calls it; only harmless letters of it are kept.

        Raises:
            InputError: the file is too large, or the disk refuses.
        """
        size, upload_id = Path(file).stat().st_size, secrets.token_hex(12)
        if size > self.max_bytes:
            raise InputError(f"The file is larger than {self.max_bytes // 2**20} MB: send a smaller one.")
        folder = self.folder(visitor) / "uploads" / upload_id
        with self._lock:
            self._make_room(visitor, size)
            _fill(folder, lambda: shutil.copyfile(file, folder / _harmless(name)))
        return upload_id

    def _make_room(self, visitor: str, size: int) -> None:
        files = sorted((self.folder(visitor) / "uploads").glob("*/*"), key=lambda file: file.stat().st_mtime_ns)

        def fits() -> bool:
            return len(files) < self.max_uploads and size + sum(f.stat().st_size for f in files) <= self.max_bytes

        while files and not fits():
            self.delete_upload(visitor, files.pop(0).parent.name)

    def upload(self, visitor: str, upload_id: str) -> Path:
        """Return the file of a visitor's upload.

        Raises:
            InputError: there is none, or it is another visitor's; the message is the same.
        """
        gone = "There is no such upload of yours: upload the file again."
        return next(self._find(visitor, "uploads", UPLOAD_ID, upload_id, gone).iterdir())

    def delete_upload(self, visitor: str, upload_id: str) -> None:
        """Delete a visitor's upload; runs made with it keep theirs.

        Raises:
            InputError: there is none, or it is another visitor's.
        """
        shutil.rmtree(self.upload(visitor, upload_id).parent)

    def uploads(self, visitor: str) -> dict[str, str]:
        """Return the visitor's uploads: id → name of the file."""
        return {path.parent.name: path.name for path in sorted((self.folder(visitor) / "uploads").glob("*/*"))}

    def comparison_folder(self, visitor: str, suite: str) -> Path:
        """Return the folder of the visitor's comparisons on a suite, which may not exist yet.

        Raises:
            InputError: this is not a token, or not a name of a suite.
        """
        if not isinstance(suite, str) or not re.fullmatch(SUITE, suite, re.ASCII):
            raise InputError("There is no such suite for a comparison: choose one of the list.")
        return self.folder(visitor) / "comparisons" / suite

    def tables_folder(self, name: str) -> Path:
        """Return the folder of tables of bundled results for download, the same for all visitors.

        Raises:
            InputError: this is not a name of results.
        """
        if not isinstance(name, str) or not re.fullmatch(SUITE, name, re.ASCII):
            raise InputError("There are no such results: choose some of the list.")
        return self.root / "tables" / name

    def prune(self, older_than: timedelta) -> int:
        """Delete uploads, comparisons and inactive runs that nobody touched for so long; return their number."""
        limit = datetime.now().timestamp() - older_than.total_seconds()
        old = [path for path in self._visitors.glob("*/*/*") if not _in_use(path) and _touched(path) < limit]
        for path in old:
            shutil.rmtree(path)
        return len(old)

    def _find(self, visitor: str, kind: str, pattern: str, name: str, gone: str) -> Path:
        valid = isinstance(name, str) and re.fullmatch(pattern, name, re.ASCII)
        folder = self.folder(visitor) / kind / name if valid else None
        if folder is None or not folder.is_dir():
            raise InputError(gone)
        return folder


def _with_archive(config: RunConfig, archive: Path) -> RunConfig:
    return replace(config, suite=replace(config.suite, name=f"folder:{archive}"))


def _fill(folder: Path, write: Callable[[], object]) -> None:
    """Fill a new folder; delete it where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"The upload cannot be kept ({error.strerror}): try again later.") from error


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _harmless(name: str) -> str:
    """Return the last part of a path, with letters, digits, dots and dashes only."""
    last = re.sub(r"[^\w.-]+", "_", str(name).replace("\\", "/").rpartition("/")[2]).lstrip(".")
    return last[-MAX_NAME:] or "upload"


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _in_use(folder: Path) -> bool:
    """Return whether this is the folder of a run that is queued or being trained."""
    if folder.parent.name != "runs":
        return False
    try:
        return open_run(folder).state.active
    except InputError:  # damaged, or incomplete
        return False
