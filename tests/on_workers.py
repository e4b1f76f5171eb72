"""What workers of a cluster are asked to do in tests; they import this module."""

import os
import time
from pathlib import Path

import torch

from metalora.util.cluster import leave_if_cancelled
from metalora.util.errors import InputError


def double(value):
    return 2 * value


def refuse(value):
    raise InputError(f"There is no {value}: name another.")


def threads():
    return torch.get_num_threads()


def work(folder: Path, name: str, released: str):
    """Write a line when it begins, go on until `released` exists, and say which process did it."""
    with (folder / "begun").open("a") as file:
        file.write(f"{name} {os.getpid()}\n")
    while not (folder / released).exists():
        leave_if_cancelled()
        time.sleep(0.02)
    return name, os.getpid()


def begun(folder: Path) -> list[tuple[str, int]]:
    """What `work` has begun in a folder, in order."""
    file = folder / "begun"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(name, int(pid)) for name, pid in map(str.split, lines)]
