"""A dataset of your own as a suite: anything with a length and items (image, task, label).

python examples/own_dataset.py
"""

import torch

import metalora
from metalora.suites.config import SuiteConfig
from metalora.suites.dataset import suite_from_dataset


class Shapes:
    """Bars and rings in two lightings: a map-style dataset, as torch and torchvision have them."""

    classes = ("bar", "ring")
    tasks = ("day", "night")

    def __init__(self, count: int = 160, size: int = 32):
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str, str]:
        """Return image (3, size, size) in [0, 1], task and label."""
        rng = torch.Generator().manual_seed(index)
        label, task = self.classes[index % 2], self.tasks[index // 2 % 2]
        y, x = torch.meshgrid(torch.linspace(-1, 1, self.size), torch.linspace(-1, 1, self.size), indexing="ij")
        dx, dy = (0.4 * torch.rand(2, generator=rng) - 0.2).tolist()
        radius = ((x - dx) ** 2 + (y - dy) ** 2).sqrt()
        shape = (radius - 0.5).abs() < 0.15 if label == "ring" else (x - dx).abs() < 0.15
        image = 0.1 + 0.8 * shape.float() + 0.05 * torch.randn(self.size, self.size, generator=rng)
        image = image if task == "day" else 1 - 0.5 * image
        return image.clamp(0, 1).expand(3, -1, -1), task, label


def main(count: int = 160, steps: int = 20) -> dict[str, float]:
    """Train on `count` items for `steps` steps; return the validation accuracy before and after."""
    suite = suite_from_dataset(Shapes(count), config=SuiteConfig("shapes", image_size=32))
    print(suite.describe().to_string(index=False))
    model = metalora.adapt("resnet20", metalora.AdapterConfig(method="metalora-tr", rank=2, hidden=16))
    training = metalora.TrainingConfig(steps=steps, batch_size=32, set_size=8, validate_every=steps)
    events = list(metalora.fit(model, suite, training))
    before, after = events[0].metrics["original"], events[-1].metrics["validation"]
    print(f"Validation: {100 * before:.1f} % before, {100 * after:.1f} % after {steps} steps.")
    return {"before": before, "after": after}


if __name__ == "__main__":
    main()
