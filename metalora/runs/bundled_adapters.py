"""The bundled adapters: every method on every bundled backbone, so that there is something to look at at once.

assets/adapters/BACKBONE-METHOD/
  config.json, adapter.safetensors   what `metalora.load` reads
  card.json                          command, settings, accuracies
  gallery.safetensors                embeddings of the digits' gallery, see gallery.py
  planes.safetensors                 UMAP of these embeddings, for the app's first look

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
from metalora.training.loop import Progress
from metalora.util.files import read_tensors, write_tensors, write_text

CARD, GALLERY, PLANES = "card.json", "gallery.safetensors", "planes.safetensors"
SET_SIZE = 8  # where cores are generated: trained on single pictures, they serve neither sets nor unseen tasks well
MAX_QUERIES = 500
GALLERY_IMAGES = 900


def run_config(name: str) -> RunConfig:
    """Settings with which a bundled adapter is trained: the preset Default, on digits; sets and named factors."""
    bundled_folder(name)
    backbone, method = name.split("/")
    suite = SuiteConfig(max_queries=MAX_QUERIES)
    adapter, training = PRESETS["Default"].adapter(method), PRESETS["Default"].training()
    if not adapter.generates:
        return RunConfig(backbone, suite, adapter, replace(training, validate_every=0))
    return RunConfig(
        backbone, suite, adapter, replace(training, validate_every=0, set_size=SET_SIZE)
    ).with_factor_code()


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
        config.suite.load(config.training.seed),
        limit=GALLERY_IMAGES,
        seed=config.training.seed,
        embed_config=config.embed_config,
    )
    save_gallery(gallery, folder / GALLERY, config.suite)
    names = [name for name in SPACES if name != "cores" or gallery.codes is not None]
    planes = {name: torch.from_numpy(project(gallery_features(model, gallery, name))) for name in names}
    write_tensors(folder / PLANES, planes)


def read_planes(folder: Path) -> dict[str, torch.Tensor]:
    """The planes that lie beside an adapter: space → (G, 2); none where there are none."""
    return read_tensors(folder / PLANES)[0] if (folder / PLANES).exists() else {}


def read_card(folder: Path) -> dict:
    """Command, settings and result of a bundled adapter."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
