"""A language model, one core for each sequence: topics of texts whose words are exchanged in many ways.

A small transformer learns to tell eight topics in a made-up language. In each task the words stand for others: every
word is moved by so many places. Which way a text is written shows in its frequent words alone. Adapters are trained on
twelve of the ways, and measured on these and on three that they never saw.

python examples/text_tasks.py
"""

import time
import warnings

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

import metalora
from metalora.util.errors import LayersLeftOut

TOPICS, WORDS, COMMON, LENGTH = 8, 64, 8, 24  # words of the language, of which some are common to all topics
STEP = 4  # places that words move, times the number of the task
SEEN, UNSEEN = (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14), (4, 8, 12)


def write_texts(count: int, tasks: tuple[int, ...], rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids (N, LENGTH) of texts, each in one of the tasks, and their topics (N)."""
    topics = torch.randint(TOPICS, (count,), generator=rng)
    own = (WORDS - COMMON) // TOPICS
    content = COMMON + topics[:, None] * own + torch.randint(own, (count, LENGTH), generator=rng)
    frequency = 1 / torch.arange(1, COMMON + 1)  # as Zipf found it
    common = torch.multinomial(frequency, count * LENGTH, replacement=True, generator=rng).view(count, LENGTH)
    ids = torch.where(torch.rand(count, LENGTH, generator=rng) < 0.5, common, content)
    moved = STEP * torch.tensor(tasks)[torch.randint(len(tasks), (count,), generator=rng)]
    return (ids + moved[:, None]) % WORDS, topics


class Classifier(nn.Module):
    """A transformer and a linear layer over the mean of its hidden states."""

    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        self.text = BertModel(BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **sizes))
        self.head = nn.Linear(64, TOPICS)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of the topics, (N, TOPICS)."""
        hidden = self.text(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(hidden.mean(1))


def train(network: nn.Module, parameters: list, tasks: tuple[int, ...], steps: int, lr: float) -> None:
    """Train parameters by the cross-entropy of the topics."""
    rng, optimizer = torch.Generator().manual_seed(1), torch.optim.AdamW(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(steps):
        ids, topics = write_texts(64, tasks, rng)
        loss = F.cross_entropy(network(ids), topics)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, tasks: tuple[int, ...], shuffled: bool = False) -> float:
    """Return the per cent of new texts whose topic is right; or with the cores of other texts."""
    ids, topics = write_texts(1000, tasks, torch.Generator().manual_seed(2))
    scores = network(ids, cores=network.generate(ids, shuffle=0)) if shuffled else network(ids)
    return 100 * (scores.argmax(1) == topics).float().mean().item()


def main(base_steps: int = 300, steps: int = 600) -> dict[str, tuple[float, float]]:
    """Train and measure; print and return the accuracy on seen and unseen tasks of every method."""
    torch.manual_seed(0)
    started, base = time.perf_counter(), Classifier()
    train(base, list(base.parameters()), (0,), base_steps, 1e-3)
    ids, _ = write_texts(2000, SEEN, torch.Generator().manual_seed(3))
    rows = {"original": (accuracy(base, SEEN), accuracy(base, UNSEEN))}
    methods = {
        "Meta-LoRA TR": metalora.AdapterConfig("metalora-tr", rank=3, exclude="head"),
        "constant core": metalora.AdapterConfig("metalora-tr", rank=3, core="constant", exclude="head"),
        "LoRA": metalora.AdapterConfig("lora", rank=14, exclude="head"),  # as many parameters as all of TR's
        "MoLoRA": metalora.AdapterConfig("molora", rank=4, exclude="head"),
    }
    for name, config in methods.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LayersLeftOut)  # embeddings
            model = metalora.adapt(base, config, example={"input_ids": ids[:2]})
        if model.config.generates:
            model.standardise(ids)
        model.print_trainable_parameters()
        train(model, list(model.trained.parameters()), SEEN, steps, 3e-3)
        rows[name] = accuracy(model, SEEN), accuracy(model, UNSEEN)
        if model.config.generates:
            rows["cores of other texts"] = accuracy(model, SEEN, True), accuracy(model, UNSEEN, True)
    print(f"{'':22}{'seen':>7}{'unseen':>8}   per cent of topics right")
    for name, (seen, unseen) in rows.items():
        print(f"{name:22}{seen:7.1f}{unseen:8.1f}")
    print(f"{time.perf_counter() - started:.0f} s")
    return rows


if __name__ == "__main__":
    main()
