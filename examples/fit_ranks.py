"""Ranks fitted to what was learnt: how much accuracy each share of ‖ΔW‖ costs, on the bundled adapters of digits.

python examples/fit_ranks.py
"""

import torch

import metalora
from metalora.evaluation.accuracy import embed_splits, validation_accuracy
from metalora.models.pruning import prune

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)


def main(names: tuple[str, ...] = ("resnet20/metalora-cp", "resnet20/metalora-tr")) -> list[tuple]:
    """Print and return adapter, share, mean rank kept, loss of ΔW, parameters and validation accuracy."""
    suite, rows = metalora.load_suite("digits"), []
    sample = suite.batch(72, torch.Generator().manual_seed(0)).images  # of training images
    print(f"{'':24}{'share':>6}{'rank':>7}{'lost':>7}{'parameters':>12}{'validation %':>14}")
    for name in names:
        model = metalora.load(name)
        for share in SHARES:
            pruned = prune(model, sample, share)
            validation = 100 * validation_accuracy(suite, embed_splits(pruned.model, suite, metalora.EmbedConfig()))
            count = sum(parameter.numel() for parameter in pruned.model.trained.parameters())
            kept, lost = pruned.ranks["kept"].mean(), pruned.ranks["error"].mean()
            rows.append((name, share, kept, lost, count, validation))
            print(f"{name:24}{share:6.1f}{kept:7.2f}{lost:7.2f}{count:12,}{validation:14.1f}")
    return rows


if __name__ == "__main__":
    main()
