"""The bundled adapters: every method on every bundled backbone, so that the app has something to show at once.

assets/adapters/BACKBONE-METHOD/
  config.json, adapter.safetensors   what `metalora.load` reads
  card.json                          command, settings, accuracies
  gallery.safetensors                embeddings of the digits' gallery, see gallery.py
  planes.safetensors                 UMAP of these embeddings, for the app's first screen

`python -m metalora bundle` makes them all.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from metalora.inspection.gallery import build_gallery
from metalora.inspection.gallery_file import save_gallery
from metalora.inspection.projection import project
from metalora.inspection.spaces import SPACES, gallery_features
from metalora.models.bundled import FOLDER, bundled_folder
from metalora.models.loading import load
from metalora.runs.execute import execute
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunFolder, create_run
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.loop import Progress
from metalora.util.files import read_tensors, write_tensors, write_text

CARD, GALLERY, PLANES = "card.json", "gallery.safetensors", "planes.safetensors"
SET_SIZE = 8  # of generated cores, which are worse on sets and unseen tasks when trained on single images
MAX_QUERIES = 500
GALLERY_IMAGES = 900


def run_config(name: str) -> RunConfig:
    """Return the settings of a bundled adapter: preset Default, on digits; generated cores of sets, by factor code."""
    bundled_folder(name)
    backbone, method = name.split("/")
    suite = SuiteConfig(max_queries=MAX_QUERIES)
    adapter, training = PRESETS["Default"].adapter(method), PRESETS["Default"].training()
    if not adapter.generates:
        return RunConfig(backbone, suite, adapter, replace(training, validate_every=0))
    training = replace(training, validate_every=0, set_size=SET_SIZE)
    return RunConfig(backbone, suite, adapter, training).with_factor_code()


def make(name: str, work: Path, out: Path | None = None) -> Iterator[Progress]:
    """Train a bundled adapter in `work`, yielding progress, then write its folder below `out`."""
    config = run_config(name)
    run = create_run(work / name.replace("/", "-"), config)
    yield from execute(run)
    _write(run, (out or FOLDER) / name.replace("/", "-"))


def _write(run: RunFolder, folder: Path) -> None:
    config = run.config
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.adapter, folder)
    card = {
        "command": f"python -m metalora bundle {config.backbone}/{config.adapter.method}",
        "settings": config.to_dict(),
        "result": run.result,
    }
    write_text(folder / CARD, json.dumps(card, indent=1) + "\n")
    model = load(folder)
    gallery = build_gallery(
        model,
        load_suite(config.suite, seed=config.training.seed),
        limit=GALLERY_IMAGES,
        seed=config.training.seed,
        embed_config=config.embed_config,
    )
    save_gallery(gallery, folder / GALLERY, config.suite)
    names = [name for name in SPACES if name != "cores" or gallery.codes is not None]
    planes = {name: torch.from_numpy(project(gallery_features(model, gallery, name))) for name in names}
    write_tensors(folder / PLANES, planes)


def read_planes(folder: Path) -> dict[str, torch.Tensor]:
    """Return the gallery of an adapter on a plane, space → (G, 2); empty where no planes are saved."""
    return read_tensors(folder / PLANES)[0] if (folder / PLANES).exists() else {}


def read_card(folder: Path) -> dict:
    """Return command, settings and result of a bundled adapter."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
