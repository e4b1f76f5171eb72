"""Collect in build/wheels what tests/gpu/run.sh needs on a machine without a network, in the versions installed here.

    python tests/gpu/wheels.py [--python 3.12] [NAME …]

Names choose packages, for a machine that has the others; left out, they are all but torch, torchvision and what these
bring: some 50 MB.
"""

import argparse
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FURTHER = "joblib", "psutil", "pyyaml", "rich", "typer", "peft", "hypothesis", "pytest"
THERE = {"torch", "torchvision", "numpy", "pillow"}
TAGS = [f"manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_24", "_2_17", "2014")]


def needed(python: str) -> dict[str, str]:
    """Return name → installed version of what the library, its jobs, its benchmark and these tests import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = {}
    open_ones = [*map(Requirement, (*project["dependencies"], *FURTHER))]
    while open_ones:
        requirement = open_ones.pop()
        name = canonicalize_name(requirement.name)
        here = requirement.marker is None or requirement.marker.evaluate({"python_version": python, "extra": ""})
        if here and name not in THERE and name not in found:
            found[name] = version(name)
            open_ones += map(Requirement, requires(name) or ())
    return found


def main() -> None:
    """Download the wheels."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default="3.12")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    wanted = [f"{name}=={v}" for name, v in needed(given.python).items() if not given.names or name in given.names]
    platforms = [word for tag in TAGS for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", given.python, *platforms]
    folder = ROOT / "build" / "wheels"
    subprocess.run([*command, *target, "--dest", str(folder), *wanted], check=True)
    files = list(folder.glob("*.whl"))
    print(f"{len(files)} wheels, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB, are in {folder}.")


if __name__ == "__main__":
    main()
