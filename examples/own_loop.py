"""A training loop and a loss of your own: adapters trained by a contrastive loss on pairs of views of each image.

python examples/own_loop.py
"""

import torch
from torch.nn import functional as F

import metalora


def contrastive(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Return the NT-Xent loss of two views (N, D) of N images."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-1e9)
    count = len(first)
    partners = torch.arange(2 * count).roll(count)
    return F.cross_entropy(similarity, partners)


def augment(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return noisy, shifted images: another view of each."""
    shift = torch.randint(-2, 3, (2,), generator=rng).tolist()
    noise = 0.1 * torch.randn(images.shape, generator=rng)
    return (images.roll(shift, dims=(2, 3)) + noise).clamp(0, 1)


def main(steps: int = 30, sets: int = 8, set_size: int = 4) -> list[float]:
    """Train a TR adapter for `steps` batches of `sets` sets of `set_size` images; return the losses."""
    suite = metalora.load_suite("digits")
    model = metalora.adapt("resnet20", metalora.AdapterConfig(method="metalora-tr", rank=2, hidden=16))
    rng = torch.Generator().manual_seed(0)
    batch = suite.batch(sets * set_size, rng, set_size)
    model.standardise(batch.images)  # the mapping net expects standardised features; this also fixes its width
    optimizer = torch.optim.AdamW(model.trained.parameters(), lr=3e-3)
    losses = []
    model.train()
    for _ in range(steps):
        batch = suite.batch(sets * set_size, rng, set_size)
        views = augment(batch.images, rng), augment(batch.images, rng)
        # Images of a set share the core of their pooled code; gradients reach the mapping net through the cores.
        first, second = (model(view, cores=model.generate(view, groups=batch.groups)) for view in views)
        loss = contrastive(first, second)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.trained.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    print(f"Loss: {losses[0]:.3f} at first, {losses[-1]:.3f} after {steps} steps.")
    return losses


if __name__ == "__main__":
    main()
