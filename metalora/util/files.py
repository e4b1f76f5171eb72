"""Files that are written whole or not at all; tensors and nested states as safetensors, never pickle.

In the file of a nested state, such as an optimiser's, tensors are entries and everything around them is JSON in the
header.
"""

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metalora.util.errors import InputError
from metalora.util.paths import expand

T = TypeVar("T")

DIGEST = "tensors_sha256"  # in the header of a file: of its tensors and of the rest of the header
TEMPORARY = ".tmp"  # suffix of a file that is not whole yet
MAX_SIDES, MAX_NAME = 32, 100  # of a tensor, and letters of its name in a message
DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}  # of safetensors


def write_whole(*files: tuple[Path, Callable[[Path], Any]]) -> None:
    """Write several files, all or none: each function fills a temporary file, which is then renamed to its path.

    Each is on the disk before it is renamed, and its name after, so that a loss of power leaves the old file or the new
    one. Between the names of several files a crash may leave some old and some new.

    Raises:
        InputError: The disk refuses, for instance because it is full, or a path is a folder.
    """
    temporaries: list[Path] = []
    files = tuple((expand(path), write) for path, write in files)
    try:
        for path, write in files:
            if path.is_dir():
                raise InputError(f"{path} is a folder: name a file.")
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
            os.close(handle)
            temporaries.append(Path(name))
            write(temporaries[-1])
            _sync(temporaries[-1])
        for (path, _), temporary in zip(files, temporaries, strict=True):
            temporary.chmod(0o644)
            temporary.replace(path)
        if os.name == "posix":  # elsewhere folders cannot be opened
            for folder in {path.parent for path, _ in files}:
                _sync(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"Cannot write {path}: {error}; free some space or choose another place.") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporaries(folder: Path, spare: str = "") -> None:
    """Remove what writers that were killed left in a folder in which nobody else writes, but for the file `spare`."""
    for file in folder.glob(f".*{TEMPORARY}"):
        if not (spare and file.name.startswith(f".{spare}.")):
            file.unlink(missing_ok=True)


def part_of(file: Path, name: str) -> Path:
    """Return the file for a part of what `file` is for, beside it."""
    return file.with_suffix(f".{name}{file.suffix}")


def remove_with_parts(file: Path) -> None:
    """Remove a file, if it exists, and those of its parts."""
    for path in (file, *file.parent.glob(f"{glob.escape(file.stem)}.*{file.suffix}")):
        path.unlink(missing_ok=True)


def check_writable(folder: str | Path) -> None:
    """Check, before long work, that files can be written in `folder`, which need not exist; nothing is left there.

    Raises:
        InputError: They cannot.
    """
    folder, created = expand(folder), []
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"Cannot write in {folder}: {error}; choose another place.") from error
    finally:
        for path in created:
            with contextlib.suppress(OSError):  # it was not created, or is in use by now
                path.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole."""
    write_whole(text_file(path, text))


def text_file(path: str | Path, text: str) -> tuple[Path, Callable[[Path], Any]]:
    """Return what `write_whole` needs to write `text` to `path`."""
    return Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8")


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any] | None = None) -> None:
    """Write named tensors and a JSON `header` to one safetensors file, whole."""
    write_whole(tensor_file(path, tensors, header))


def tensor_file(
    path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any] | None = None
) -> tuple[Path, Callable[[Path], Any]]:
    """Return what `write_whole` needs to write named tensors and a JSON `header` to `path`."""
    whole = _with_memory_of_their_own(tensors)
    header = dict(header or {})
    # In the header, since safetensors writes several entries of metadata in any order.
    text = json.dumps({**header, DIGEST: _digest(whole, json.dumps(header))})
    return Path(path), lambda temporary: save_file(whole, temporary, {"header": text})


def _with_memory_of_their_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: contiguous, and copies where memory is shared."""
    owned: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage()
        if memory.data_ptr() in taken or memory.nbytes() != value.nbytes:
            value = value.clone()
        taken.add(value.untyped_storage().data_ptr())
        owned[name] = value
    return owned


def parse_json(text: str | bytes) -> Any:
    """Return what a text of JSON says.

    Raises:
        ValueError: it is none, or so deeply nested that nobody wrote it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_tensors(path: str | Path, advice: str = "write it again") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read named tensors and the JSON header of a file that `write_tensors` wrote.

    Args:
        path: The file.
        advice: What to do if it is damaged.

    Raises:
        InputError: The file is missing, truncated or not safetensors, or was changed since it was written.
    """

    def read(file: Any, names: list[str], header: dict[str, Any]) -> dict[str, Tensor]:
        tensors = {name: file.get_tensor(name) for name in names}
        digest = header.pop(DIGEST, None)  # files of earlier versions have none
        if digest is not None and digest != _digest(tensors, json.dumps(header)):
            raise ValueError("its values are not those that were written")
        return tensors

    return _open(path, advice, read)


def read_shapes(path: str | Path, advice: str = "write it again") -> dict[str, list[int]]:
    """Read the shapes of the tensors in a file and nothing else: no larger than the file is, whatever it says.

    Raises:
        InputError: As `read_tensors`.
    """
    return _open(path, advice, lambda file, names, _: {name: file.get_slice(name).get_shape() for name in names})[0]


def _open(
    path: str | Path, advice: str, read: Callable[[Any, list[str], dict[str, Any]], T]
) -> tuple[T, dict[str, Any]]:
    """Return what a function reads of a safetensors file, given the names in it and its JSON header; and the header."""
    path = expand(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a whole safetensors file (it is no file at all): {advice}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {}).get("header", "{}"))
            if not isinstance(header, dict):
                raise ValueError("its header is no object")
            names = file.keys()
            for name in names:
                part = file.get_slice(name)
                if len(part.get_shape()) > MAX_SIDES or part.get_dtype() not in DTYPES:
                    raise ValueError(f"{name[:MAX_NAME]!r} is no tensor that is written here")
            return read(file, names, header), header
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): {advice}.") from error


def _digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return the SHA-256 of a file's header and its tensors: their names, dtypes, shapes and values."""
    digest = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> Any:
    """Return the bytes of a tensor, without a copy where it is in the memory of this process."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that the values of a file are numbers.

    Raises:
        InputError: One is infinite or not a number.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"In {path} the tensor {name!r} has values that are not finite: save it again.")


def hash_words(words: Any) -> str:
    """Return a short hash of plain values: texts, numbers, and sequences of these."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:24]


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a nested state (dicts, lists, numbers, strings, tensors), for instance an optimiser's."""
    tensors: dict[str, Tensor] = {}

    def strip(node: Any, key: str) -> Any:
        if isinstance(node, Tensor):
            tensors[key] = node
            return {"tensor": key}
        if isinstance(node, dict):
            return {"dict": [[name, strip(value, f"{key}.{name}")] for name, value in node.items()]}
        if isinstance(node, list | tuple):
            return {"list": [strip(value, f"{key}.{i}") for i, value in enumerate(node)]}
        return node

    skeleton = strip(state, "state")
    write_tensors(path, tensors, skeleton)


def read_state(path: Path) -> dict[str, Any]:
    """Read the nested state that `write_state` wrote; tuples come back as lists.

    Raises:
        InputError: The file is missing, truncated or not safetensors.
    """
    tensors, skeleton = read_tensors(path, "if it is a torn checkpoint, delete it to train from the beginning")

    def rebuild(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, value),) = node.items()
        if kind == "tensor":
            return tensors[value]
        if kind == "dict":
            return {name: rebuild(child) for name, child in value}
        return [rebuild(child) for child in value]

    try:
        state = rebuild(skeleton)
        if not isinstance(state, dict):
            raise ValueError("it is no state")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} holds no state ({error}): delete it to train from the beginning.") from error
    return state
