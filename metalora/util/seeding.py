"""Random generators that are seeded from several numbers."""

import torch


def seeded_generator(*seeds: int) -> torch.Generator:
    """Return a CPU generator whose stream depends on each of `seeds` and on their order."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 6364136223846793005 + int(seed) + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)
