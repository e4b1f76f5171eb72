"""The bundled adapters, which the app shows before anything is trained: of digits, and of photographs (CIFAR-10).

assets/adapters/BACKBONE-METHOD/, …/BACKBONE-METHOD-SUITE/
  config.json, adapter.safetensors   what `metalora.load` reads
  card.json                          command, settings, accuracies
  README.md                          the same as a model card
  gallery.safetensors                embeddings of the suite's gallery, see gallery.py
  planes.safetensors                 UMAP of these embeddings, for the app's first screen

`python -m metalora bundle` makes them all; those of photographs need CIFAR-10 in `data/`.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS
from metalora.experiments.equal_budget import equal_budget
from metalora.experiments.variants import REFERENCE
from metalora.inspection.gallery import build_gallery
from metalora.inspection.gallery_file import save_gallery
from metalora.inspection.projection import project
from metalora.inspection.spaces import SPACES, gallery_features
from metalora.models.backbones import load_backbone
from metalora.models.bundled import DIGITS, FOLDER, parse_bundled
from metalora.models.loading import load
from metalora.runs.execute import execute
from metalora.runs.model_cards import write_model_card
from metalora.runs.presets import PRESETS
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunFolder, create_run
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.training.loop import Progress
from metalora.util.files import read_tensors, write_tensors, write_text

CARD, GALLERY, PLANES = "card.json", "gallery.safetensors", "planes.safetensors"
SET_SIZE = 8  # of generated cores, which are worse on sets and unseen tasks when trained on single images
MAX_QUERIES = 500
GALLERY_IMAGES = 900
FEWER_IMAGES = 640  # of a gallery of photographs
# As the parts corruptions-free and main of the studies train: where each image shows its task, on single images.
STEPS = {"cifar10-corruptions": 600, "cifar10-compositions": 1200}
BATCH_SIZE, LR = 128, 6e-3
HIDDEN = 16


def run_config(name: str) -> RunConfig:
    """Return the settings of a bundled adapter.

    On digits those of preset Default; generated cores are trained on sets, by factor code. On photographs those of the
    study behind the claim; LoRA has as many parameters as Meta-LoRA TR in all.

    Raises:
        InputError: there is none of that name.
    """
    backbone, method, suite_name = parse_bundled(name)
    suite = SuiteConfig(suite_name, max_queries=MAX_QUERIES)
    if suite_name == DIGITS:
        adapter, training = PRESETS["Default"].adapter(method), PRESETS["Default"].training(method)
    else:
        rank = METHODS[method].rank_for(PRESETS["Default"].rank)
        adapter = AdapterConfig(method, rank=rank, hidden=HIDDEN)
        training = TrainingConfig(steps=STEPS[suite_name], batch_size=BATCH_SIZE, lr=LR, identity_core_prob=0.5)
    config = RunConfig(backbone, suite, adapter, replace(training, validate_every=0))
    in_sets = suite_name != "cifar10-corruptions"
    if adapter.generates and in_sets:
        return replace(config, training=replace(config.training, set_size=SET_SIZE)).with_factor_code()
    if method == "lora" and suite_name != DIGITS:
        reference = run_config(f"{backbone}/{REFERENCE}/{suite_name}").adapter
        return replace(config, adapter=equal_budget(load_backbone(backbone), reference))
    return config


def make(name: str, work: Path, out: Path | None = None) -> Iterator[Progress]:
    """Train a bundled adapter in `work`, yielding progress, then write its folder below `out`."""
    config = run_config(name)
    run = create_run(work / name.replace("/", "-"), config)
    yield from execute(run)
    _write(run, name, (out or FOLDER) / name.replace("/", "-"))


def _write(run: RunFolder, name: str, folder: Path) -> None:
    config = run.config
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.adapter, folder)
    card = {
        "command": f"python -m metalora bundle {name}",
        "settings": config.to_dict(),
        "result": run.result,
    }
    write_text(folder / CARD, json.dumps(card, indent=1) + "\n")
    write_model_card(folder, name, card)
    model = load(folder)
    gallery = build_gallery(
        model,
        load_suite(config.suite, seed=config.training.seed),
        limit=GALLERY_IMAGES if config.suite.name == DIGITS else FEWER_IMAGES,
        seed=config.training.seed,
        embed_config=config.embed_config,
    )
    save_gallery(gallery, folder / GALLERY, config.suite)
    spaces = [space for space in SPACES if space != "cores" or gallery.codes is not None]
    planes = {space: torch.from_numpy(project(gallery_features(model, gallery, space))) for space in spaces}
    write_tensors(folder / PLANES, planes)


def read_planes(folder: Path) -> dict[str, torch.Tensor]:
    """Return the gallery of an adapter on a plane, space → (G, 2); empty where no planes are saved."""
    return read_tensors(folder / PLANES)[0] if (folder / PLANES).exists() else {}


def read_card(folder: Path) -> dict:
    """Return command, settings and result of a bundled adapter."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))
