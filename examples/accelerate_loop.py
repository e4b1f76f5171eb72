"""A training loop of your own under Hugging Face Accelerate: one device or many, adapters saved as always.

python examples/accelerate_loop.py
accelerate launch --num_processes 2 examples/accelerate_loop.py
"""

import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import metalora


def main(out: str | Path, steps: int = 40, batch_size: int = 64) -> list[float]:
    """Train a TR adapter and a head on digits, save the adapter to the folder `out`, and return the losses."""
    torch.manual_seed(0)
    accelerator = Accelerator()
    suite = metalora.load_suite("digits")
    split = suite.splits["train"]
    model = metalora.adapt("resnet20", metalora.AdapterConfig(method="metalora-tr", rank=2))
    # Before `prepare`, so that all processes begin alike: it decides how features are scaled.
    model.standardise(split[torch.randperm(len(split))[:256]].images())
    head = nn.Linear(64, len(suite.classes))
    loader = DataLoader(TensorDataset(split.images(), split.labels), batch_size=batch_size, shuffle=True)
    trained = [*model.trained.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    model, head, optimizer, loader = accelerator.prepare(model, head, optimizer, loader)
    losses: list[float] = []
    model.train()
    while len(losses) < steps:
        for images, labels in loader:
            # Through the prepared model, not through its `generate`: that is how gradients meet across processes.
            loss = F.cross_entropy(head(model(images)), labels)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).eval().save(out)
    accelerator.print(f"Loss: {losses[0]:.3f} at first, {losses[-1]:.3f} after {steps} steps. The adapter is in {out}.")
    accelerator.end_training()
    return losses


if __name__ == "__main__":
    main(Path(tempfile.gettempdir()) / "metalora-accelerate")
