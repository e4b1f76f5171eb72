"""What one process and several must compute alike; as a program, computes it in the processes launched with it.

python -m computed_together FOLDER writes a file for every process.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.shared_batchnorm import share_batchnorm
from metalora.util.distributed import current_processes, joined_processes

COMMON = {"steps": 5, "batch_size": 24, "device": "cpu", "max_grad_norm": 0.1}
TRAININGS = {
    "lora": ({"method": "lora"}, {}),
    "single images": ({"method": "metalora-tr"}, {"keep_best": True, "validate_every": 2}),
    "an odd number of sets": ({"method": "metalora-tr"}, {"set_size": 8}),
    "pooled in the pass": ({"method": "metalora-cp"}, {"set_size": 4, "identity_core_prob_sets": 0.0}),
    "sets of several sizes": ({"method": "metalora-tr"}, {"set_size": (0, 1, 4)}),
    "factor code": ({"method": "metalora-tr", "factors": (2, 2, 3)}, {"set_size": 4}),
    "factors from the embedding": ({"method": "lora", "factors": (2, 2, 3)}, {}),
}
EMBEDDINGS = {
    "own cores": EmbedConfig(batch_size=16, device="cpu"),
    "pooled cores": EmbedConfig(set_size=None, batch_size=16, device="cpu"),
    "shuffled cores": EmbedConfig(shuffled=True, batch_size=16, device="cpu"),
    "one chunk": EmbedConfig(batch_size=512, device="cpu"),
}


def small(**settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return metalora.adapt(net, AdapterConfig(rank=2, **settings), example=torch.zeros(1, 3, 8, 8))


def compute():
    """Return what was computed, by name, on digits."""
    suite = metalora.load_suite("digits", image_size=8, max_queries=50)
    found, models = {}, {}
    for name, (adapter, training) in TRAININGS.items():
        model = models[name] = small(**adapter)
        events = list(fit(model, suite, TrainingConfig(**COMMON, **training)))
        found |= {f"{name}: {key}": value for key, value in model.trained.state_dict().items()}
        for metric in ("loss", "accuracy", "validation", "best_step"):
            values = [event.metrics[metric] for event in events if metric in event.metrics]
            found[f"{name}: {metric}"] = torch.tensor(values)
    for name, config in EMBEDDINGS.items():
        found[name] = embed(models["an odd number of sets"], suite.splits["seen query"], config)
    return found | normalised()


def normalised():
    """Return output, gradients and statistics of a BatchNorm in training, for a batch of three images."""
    processes, rng = current_processes(), torch.Generator().manual_seed(0)
    images = 5 + torch.randn(3, 4, 6, 6, generator=rng)
    wanted = torch.randn(3, 4, 6, 6, generator=rng)
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=rng))
    if processes.count > 1:
        share_batchnorm(net)
    part = processes.part(3)
    output = net(images[part])
    loss = (output - wanted[part]).square().sum() / wanted.numel()
    loss.backward()
    (loss,) = processes.add_up(list(net.parameters()), [loss])
    found = {f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()}
    found |= {f"buffer {name}": value for name, value in net.named_buffers()}
    return found | {"loss": loss, "output": torch.cat(processes.gather(lambda: [output.detach()]))}


if __name__ == "__main__":
    with joined_processes("cpu") as joined:
        tensors = {name: value.detach().contiguous() for name, value in compute().items()}
    save_file(tensors, Path(sys.argv[1]) / f"{joined.rank}.safetensors")
