"""Training the bundled backbones from scratch on a folder or archive of class folders.

Recipes after He et al. 1512.03385 (SGD, crops, flips) for the ResNet, with AdamW for the Mixer; both in cycles with a
warm restart between (1608.03983), with CutMix (1905.04899) and Cutout (1708.04552), without which they overfit.
Rotations and changes of colour would help too, but suites use them as domain transforms, so no backbone is trained on
them.

Several processes compute each batch together: all draw and mix it, each trains on its part, and BatchNorms normalise by
the whole of it. So the result is that of one process, to float tolerance.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.transforms.v2 import CutMix

from metalora.models.bundled_networks import BUNDLED
from metalora.suites.class_folders import HELD_OUT_PER_CLASS, held_out, read_split
from metalora.training.loop import Progress, run_loop, warmup_cosine
from metalora.training.shared_batchnorm import share_batchnorm
from metalora.util.device import autocast, pick_device
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.files import write_tensors, write_text
from metalora.util.paths import expand
from metalora.util.seeding import seeded_generator


@dataclass(frozen=True)
class Cycle:
    """Training from a warm restart to a learning rate of zero.

    Attributes:
        epochs: passes over the training images.
        cutmix: fraction of the batches that are mixed.
        cutout: side in pixels of the square cut out of each image of the other batches.
    """

    epochs: int
    cutmix: float
    cutout: int = 0


@dataclass(frozen=True)
class Recipe:
    """How one bundled backbone is trained."""

    optimizer: str
    lr: float
    weight_decay: float
    batch_size: int
    label_smoothing: float
    cycles: tuple[Cycle, ...]


RECIPES = {
    "resnet20": Recipe("SGD", 0.2, 5e-4, 128, 0.0, (Cycle(100, 0.5), Cycle(90, 0.5, cutout=12))),
    "mixer_nano": Recipe("AdamW", 3e-3, 0.05, 256, 0.1, (Cycle(45, 0.5), Cycle(60, 0.5, cutout=8))),
}


def crop_and_flip(images: Tensor, rng: torch.Generator, margin: int = 4) -> Tensor:
    """Shift each image by up to `margin` random pixels and mirror it at random. (N, C, H, W), uint8."""
    count, _, height, width = images.shape
    rows = torch.randint(2 * margin + 1, (count, 1), generator=rng) + torch.arange(height)
    columns = torch.randint(2 * margin + 1, (count, 1), generator=rng) + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=rng) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = pad(images, [margin] * 4).permute(0, 2, 3, 1)
    each = torch.arange(count)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Cover a random square of each image, which may be partly outside, with grey. (N, C, H, W), uint8."""
    count, _, height, width = images.shape

    def covered(length: int) -> Tensor:
        inside = torch.arange(length) - torch.randint(length, (count, 1), generator=rng) + side // 2
        return (inside >= 0) & (inside < side)

    mask = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images.masked_fill(mask, 128)


class Pretraining:
    """One pretraining: `fit()` trains, `save()` writes weights and card.

    Args:
        name: of the bundled backbone.
        source: folder or archive of class folders.
        epochs: of every cycle, in place of the recipe's.
        seed: of initial values, order and augmentation.
        device: as in `pick_device`.
        precision: float32 or bfloat16.

    Raises:
        InputError: the backbone or the number of epochs cannot be pretrained, or there are too few images.
    """

    def __init__(
        self,
        name: str,
        source: Path,
        *,
        epochs: int | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "float32",
    ):
        if name not in BUNDLED:
            raise InputError(f"Unknown backbone {name!r}: only {' and '.join(BUNDLED)} can be pretrained.")
        if epochs is not None and epochs < 1:
            raise InputError(f"{epochs} epochs train nothing: use 1 or more.")
        self.name, self.source, self.epochs, self.seed = name, expand(source), epochs, seed
        self.entry, self.recipe = BUNDLED[name], RECIPES[name]
        if epochs is not None:
            cycles = tuple(replace(cycle, epochs=epochs) for cycle in self.recipe.cycles)
            self.recipe = replace(self.recipe, cycles=cycles)
        self.device, self.precision = pick_device(device), precision
        everything = read_split(self.source, "train", self.entry.image_size)
        self.classes = everything.classes
        held = held_out(everything.labels, HELD_OUT_PER_CLASS)
        if not 0 < int(held.sum()) < len(held):
            raise InputError(f"{source} has too few images: more than {HELD_OUT_PER_CLASS} in every class are needed.")
        self.validation_names = [name for name, out in zip(everything.images.names, held.tolist(), strict=True) if out]
        self.splits = {
            "train": (everything.images.images[~held], everything.labels[~held]),
            "validation": (everything.images.images[held], everything.labels[held]),
        }
        torch.manual_seed(seed)
        net: Any = self.entry.build(len(self.classes))
        net = net.to(self.device, memory_format=torch.channels_last)
        self.net, self.preprocess = net, self.entry.preprocess(self.entry.image_size)
        self.processes = current_processes()
        if self.processes.count > 1:
            share_batchnorm(net)

    def fit(self, checkpoint: Path | None = None) -> Iterator[Progress]:
        """Train, yielding progress; resume from `checkpoint` when it exists."""
        recipe = self.recipe
        images, labels = self.splits["train"]
        per_epoch = len(images) // recipe.batch_size
        cycles = [cycle for cycle in recipe.cycles for _ in range(cycle.epochs)]  # of each epoch
        steps = len(cycles) * per_epoch
        optimizer = getattr(torch.optim, recipe.optimizer)(self._groups(), lr=recipe.lr, **self._momentum())
        schedule = warmup_cosine(optimizer, *(cycle.epochs * per_epoch for cycle in recipe.cycles))
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        cutmix = CutMix(num_classes=len(self.classes))
        part = self.processes.part(recipe.batch_size)
        share = len(range(recipe.batch_size)[part]) / recipe.batch_size
        trained = list(self.net.parameters())

        def step(i: int) -> dict[str, float]:
            self.net.train()
            epoch, position = divmod(i, per_epoch)
            order = torch.randperm(len(images), generator=seeded_generator(self.seed, epoch))
            rng = seeded_generator(self.seed, epoch, position)
            chosen = order[position * recipe.batch_size : (position + 1) * recipe.batch_size]
            x, y = crop_and_flip(images[chosen], rng), labels[chosen].to(self.device)
            mixed = torch.rand((), generator=rng) < cycles[epoch].cutmix
            if not mixed and cycles[epoch].cutout:
                x = cut_out(x, cycles[epoch].cutout, rng)
            x = self._prepare(x)
            if mixed:
                x, y = cutmix(x, y)
            with autocast(self.device, self.precision):
                loss = share * criterion(self.net(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            (loss,) = self.processes.add_up(trained, [loss])
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()
            metrics = {"loss": loss.item()}
            if position == per_epoch - 1:
                metrics["validation"] = self.accuracy("validation")
            return metrics

        parts = {"net": self.net, "optimizer": optimizer, "schedule": schedule}
        identity = {"pretrain": self.name, "seed": self.seed, "recipe": asdict(recipe)}
        yield from run_loop(step, steps, recipe.batch_size, optimizer, parts, identity, checkpoint=checkpoint, every=60)

    def _groups(self) -> list[dict]:
        # Norms and biases get no weight decay.
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        decay = self.recipe.weight_decay
        return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]

    def _momentum(self) -> dict:
        return {"momentum": 0.9, "nesterov": True} if self.recipe.optimizer == "SGD" else {}

    def _prepare(self, images: Tensor) -> Tensor:
        x = self.preprocess(images.to(self.device).float() / 255)
        return x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def accuracy(self, split: str) -> float:
        """Return the accuracy on the images of "validation" or "test"."""
        if split == "test" and split not in self.splits:
            test = read_split(self.source, "test", self.entry.image_size)
            self.splits["test"] = (test.images.images, test.labels)
        self.net.eval()
        images, labels = self.splits[split]

        def hits(pair: tuple[Tensor, Tensor]) -> float:
            return (self.net(self._prepare(pair[0])).argmax(1).cpu() == pair[1]).sum().item()

        pairs = list(zip(images.split(500), labels.split(500), strict=True))
        return sum(self.processes.map(hits, pairs)) / len(labels)

    def save(self, folder: Path, command: str) -> dict:
        """Round to float16, measure on the test images, write weights (no head) and card; return the card.

        The first of several processes writes.
        """
        self.net.half().float()
        card = {
            "name": self.name,
            "command": command,
            "data": "CIFAR-10 (Krizhevsky 2009) as jpg of quality 75",
            "classes": self.classes,
            "seed": self.seed,
            "epochs": sum(cycle.epochs for cycle in self.recipe.cycles),
            "precision": self.precision,
            "recipe": asdict(self.recipe),
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "validation_accuracy": self.accuracy("validation"),
            "test_accuracy": self.accuracy("test"),
            "licence": "Apache-2.0",
            "validation_images": self.validation_names,
        }
        if not self.processes.is_first:
            return card
        headless = self.entry.build(0).state_dict()
        weights = {key: value for key, value in self.net.state_dict().items() if key in headless}
        half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
        write_tensors(Path(folder) / f"{self.name}.safetensors", half, {"name": self.name})
        write_text(Path(folder) / f"{self.name}.json", json.dumps(card, indent=1) + "\n")
        return card
