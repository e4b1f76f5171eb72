"""The one folder that an app writes to, and each visitor's part of it.

tables/NAME                  tables of bundled results, for everybody's download
visitors/HASH/runs/RUN       a run's folder, see run_folder.py
visitors/HASH/uploads/ID     one file, under the name that its owner gave it, see uploads.py
visitors/HASH/comparisons/SUITE   jobs of the visitor's comparisons on a suite, and the last table
visitors/HASH/exports/NAME   files that the visitor asked for, such as an embedding as a page
visitors/HASH/address        hash of the network address that this was last added from, see addresses.py

A visitor is identified by a token, of which the disk has only the SHA-256. Ids from outside are checked against a
pattern before they become part of a path, and looked up in their visitor's folder only, so that no visitor reaches
another's files, nor any others. Whatever else lies in these folders, such as a .DS_Store, is ignored.
"""

import hashlib
import os
import re
import secrets
import shutil
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock

from metalora.models.bundled import bundled_folder
from metalora.models.saving import WEIGHTS
from metalora.runs.addresses import Marks, current_address
from metalora.runs.pruning import delete_run, disk_usage, prune, repeat
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import ADAPTER, SETTINGS, RunFolder, RunState, open_run
from metalora.runs.uploads import MB, UPLOAD_ID, Upload, check_room, keep_upload, list_uploads, mark_used
from metalora.runs.visitor_limits import check_limits
from metalora.util.errors import InputError
from metalora.util.files import write_text
from metalora.util.paths import expand, is_stray

TOKEN, RUN_ID = r"[\w-]{32}", r"\d{8}-\d{6}-\d{6}-[0-9a-f]{16}"
RUN = "run:"  # begins the name of an adapter that a visitor trained
SUITE = r"[a-z][a-z0-9_-]{0,39}"
ADDRESS = "address"
SHARES = 4  # of the disk: one address may use one of them
FULL, SHORTEST = 0.8, timedelta(days=1)  # part of the disk from which on less age is deleted, and the least age
NO_UPLOAD = "There is no such upload of yours: upload the file again."


class Workspace:
    """The folder of an app.

    Args:
        root: the folder; created where it is missing, readable for its owner only.
        max_uploads: of a visitor.
        max_bytes: of a visitor's uploads together.
        max_runs: of a visitor.
        max_disk: bytes of all visitors together, of which one address may use a quarter; 0: no limit.

    Raises:
        InputError: the disk refuses.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        max_uploads: int = 20,
        max_bytes: int = 512 * 2**20,
        max_runs: int = 50,
        max_disk: int = 0,
    ):
        self.root = expand(root).absolute()
        self.max_uploads, self.max_bytes, self.max_runs, self.max_disk = max_uploads, max_bytes, max_runs, max_disk
        try:
            self._visitors.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(f"Cannot write in {root}: {error}; name another folder in METALORA_WORKSPACE.") from error
        self._marks = Marks(self.root)
        self._lock = FileLock(self.root / ".lock")  # from counting a visitor's files to adding one

    @property
    def _visitors(self) -> Path:
        return self.root / "visitors"

    def new_visitor(self) -> str:
        """Return an unguessable token; its holder owns what is made with it. Nothing is written."""
        return secrets.token_urlsafe(24)

    def folder(self, visitor: str) -> Path:
        """Return the folder of the visitor who holds this token, which may not exist yet.

        Raises:
            InputError: this is not a token.
        """
        if not isinstance(visitor, str) or not re.fullmatch(TOKEN, visitor, re.ASCII):
            raise InputError("This page has lost its visitor's id: reload it.")
        return self._visitors / hashlib.sha256(visitor.encode()).hexdigest()

    def address(self, owner: Path) -> str:
        """Return the mark of the address that a visitor's folder was last added to from; "" where it is not known."""
        try:
            return (owner / ADDRESS).read_text(encoding="utf-8")
        except OSError:
            return ""

    def make_room(self, visitor: str, size: int = 0) -> None:
        """Check that so many bytes more fit on the disk that an app may use, and note where they come from.

        Raises:
            InputError: they do not fit, or the disk refuses.
        """
        folder, mark = self.folder(visitor), self._marks.mark(current_address())
        if self.max_disk:
            used = {owner: disk_usage(owner) for owner in self._visitors.glob("*")}
            if sum(used.values()) + size > self.max_disk:
                raise InputError("The disk of this app is full: delete what you do not need, or try again tomorrow.")
            mine = [owner for owner in used if owner == folder or (mark and self.address(owner) == mark)]
            if sum(used[owner] for owner in mine) + size > self.max_disk // SHARES:
                raise InputError(
                    f"What you have here takes {self.max_disk // SHARES / MB:,.0f} MB, which is the maximum: delete "
                    "some runs or uploads first."
                )
        if mark:
            write_text(folder / ADDRESS, mark)

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
            self.make_room(visitor, source.stat().st_size if source is not None else 0)
            run_id = f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(8)}"
            folder = runs / run_id
            try:
                if source is not None:
                    config = _with_archive(config, _link(source, folder / "upload"))
                if start is not None:  # a copy, since its run may be deleted, or trained further
                    config = replace(config, start=str(_copy(start, folder / "start")))
                RunFolder(folder, config).record(RunState.NEW)
            except (OSError, InputError) as error:
                shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, InputError):
                    raise
                raise InputError(f"The run cannot be kept ({error.strerror or error}): try again later.") from error
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
        return [folder.name for folder in _run_folders(self.folder(visitor))[::-1]]

    def all_runs(self) -> list[Path]:
        """Return the folders of all visitors' runs, oldest first; for the queue."""
        folders = [folder for visitor in self._visitors.glob("*") for folder in _run_folders(visitor)]
        return sorted(folders, key=lambda path: path.name)

    def rename_run(self, visitor: str, run_id: str, name: str) -> None:
        """Give a visitor's run a name of up to 60 characters; "" takes it away.

        Raises:
            InputError: there is no such run of this visitor, the name is too long, or the disk refuses.
        """
        open_run(self.run_folder(visitor, run_id)).rename(name)

    def delete_run(self, visitor: str, run_id: str) -> None:
        """Delete a visitor's run.

        Raises:
            InputError: there is no such run of this visitor, or it is queued or being trained.
        """
        delete_run(self.run_folder(visitor, run_id))

    def add_upload(self, visitor: str, file: str | Path, name: str) -> str:
        """Keep a copy of a file that the server received; return its id.

        Args:
            visitor: token of the owner.
            file: where the server saved it. Never a path that came from outside.
            name: what its owner calls it; only harmless letters of it are kept.

        Raises:
            InputError: the file is too large, the visitor has too many, or the disk refuses.
        """
        file, folder = Path(file), self.folder(visitor) / "uploads"
        with self._lock:
            check_room(list_uploads(folder), file.stat().st_size, self.max_uploads, self.max_bytes)
            self.make_room(visitor, file.stat().st_size)
            return keep_upload(folder, file, name)

    def upload(self, visitor: str, upload_id: str) -> Path:
        """Return the file of a visitor's upload.

        Raises:
            InputError: there is none, or it is another visitor's; the message is the same.
        """
        folder = self._upload_folder(visitor, upload_id)
        for upload in self.uploads(visitor):
            if upload.file.parent == folder:
                return upload.file
        raise InputError(NO_UPLOAD)

    def delete_upload(self, visitor: str, upload_id: str) -> None:
        """Delete a visitor's upload; runs made with it keep theirs.

        Raises:
            InputError: there is none, or it is another visitor's.
        """
        shutil.rmtree(self._upload_folder(visitor, upload_id))

    def _upload_folder(self, visitor: str, upload_id: str) -> Path:
        return self._find(visitor, "uploads", UPLOAD_ID, upload_id, NO_UPLOAD)

    def uploads(self, visitor: str) -> list[Upload]:
        """Return the visitor's uploads, those used last first."""
        return list_uploads(self.folder(visitor) / "uploads")

    def export_folder(self, visitor: str, name: str) -> Path:
        """Return a folder for files that the visitor asks for, which may not exist yet; `name` is the server's."""
        return self.folder(visitor) / "exports" / name

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
        """Delete what has not been used for so long and no process works on; return the number of things deleted.

        While the disk of the app is fuller than `FULL`, less time is enough, down to a day.
        """
        deleted = prune(self._visitors, older_than)
        while self.max_disk and older_than > SHORTEST and disk_usage(self._visitors) > FULL * self.max_disk:
            older_than = max(SHORTEST, older_than / 2)
            deleted += prune(self._visitors, older_than)
        return deleted

    def prune_regularly(self, older_than: timedelta, every: timedelta) -> threading.Event:
        """Prune now and then, in a thread that ends with the process, or once the event that is returned is set."""
        return repeat(lambda: self.prune(older_than), every)

    def _find(self, visitor: str, kind: str, pattern: str, name: str, gone: str) -> Path:
        valid = isinstance(name, str) and re.fullmatch(pattern, name, re.ASCII)
        folder = self.folder(visitor) / kind / name if valid else None
        if folder is None or not folder.is_dir():
            raise InputError(gone)
        return folder


def _with_archive(config: RunConfig, archive: Path) -> RunConfig:
    return replace(config, suite=replace(config.suite, name=f"folder:{archive}"))


def _run_folders(visitor: Path) -> list[Path]:
    """Return the folders of a visitor's runs, oldest first."""
    folders = (file.parent for file in (visitor / "runs").glob(f"*/{SETTINGS}"))
    return sorted(folder for folder in folders if re.fullmatch(RUN_ID, folder.name))


def _copy(adapter: Path, folder: Path) -> Path:
    """Copy an adapter into a new folder, without stray files; return that folder."""

    def strays(_: str, names: list[str]) -> list[str]:
        return [name for name in names if is_stray(name)]

    return shutil.copytree(adapter, folder, ignore=strays, ignore_dangling_symlinks=True)


def _link(source: Path, folder: Path) -> Path:
    """Link a file into a new folder, or copy it where the file system has no hard links; return its path there."""
    folder.mkdir(parents=True)
    mark_used(source)
    try:
        os.link(source, folder / source.name)
    except OSError:
        shutil.copyfile(source, folder / source.name)
    return folder / source.name
