"""README.md of a bundled adapter: a model card with the Hub's metadata, made from card.json."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from metalora.adapters.methods import METHODS
from metalora.experiments.table import format_count, format_percent
from metalora.models.bundled import parse_bundled
from metalora.models.bundled_networks import BUNDLED
from metalora.util.files import write_text

MODEL_CARD = "README.md"
K = 5  # neighbours of the accuracies that a card shows
SUITES = {
    "digits": "scikit-learn's 1,797 handwritten digits, rotated, inverted and inked",
    "cifar10-compositions": "CIFAR-10 under rotation, channel order and inversion",
    "cifar10-corruptions": "CIFAR-10 under noise, blur, loss of contrast and pixelation",
}
BODY = """# {name}

{title} for the frozen backbone `{backbone}`, trained on {suite}. {generates}

```python
import metalora

model = metalora.load("{name}")
embeddings = model(images)  # float RGB in [0, 1], (N, 3, H, W)
```

## Accuracy

k-NN accuracy of embeddings in %, K = {k}, on the {primary} gallery.

| tasks | accuracy |
|---|---:|
{rows}
Validation {validation} %. One seed: these numbers say that the adapter works, not that a method is better than another.
Measured comparisons are in the project's results report.

## Training

{steps} steps of {batch_size} images, learning rate {lr:g}, {sets}. {static} parameters are in the adapters{generator}.
All settings are in `card.json`. To train it again:

```
{command}
```

## Intended use and limits

- To look at generated adapters, to try the library, and to start a training of your own.
- It was trained on images of {pixels} pixels. On images of other classes its predictions mean nothing; what can be
  looked at there is how their adapters differ.
- It adapts to what the pixels show. Tasks that differ in their labels alone cannot be told apart.
- It is not for decisions about people.

Method: M. Wang, X. Zhao, [arXiv 2504.00460](https://arxiv.org/abs/2504.00460). This page is made from `card.json` by
`python -m metalora bundle --cards`.
"""


def model_card(name: str, card: dict[str, Any]) -> str:
    """Return the text of the model card of a bundled adapter.

    Args:
        name: BACKBONE/METHOD or BACKBONE/METHOD/SUITE.
        card: what its card.json holds.

    Raises:
        InputError: there is no bundled adapter of that name.
    """
    found = parse_bundled(name)
    settings, result = card["settings"], card["result"]
    rows = [row for row in result["rows"] if row["k"] == K and row["gallery"] == result["primary"]]
    training, generator = settings["training"], result["generator_parameters"]
    generates = METHODS[found.method].generated
    body = BODY.format(
        name=name,
        title=METHODS[found.method].title,
        backbone=found.backbone,
        suite=SUITES.get(found.suite, found.suite),
        generates="A mapping net generates its cores." if generates else "It is the same for every image.",
        k=K,
        primary=result["primary"],
        rows="".join(f"| {row['task_split']} | {format_percent(row['accuracy'])} |\n" for row in rows),
        validation=format_percent(result["validation"]),
        steps=training["steps"],
        batch_size=training["batch_size"],
        lr=training["lr"],
        sets=_sets(training["set_size"]),
        static=format_count(result["static_parameters"]),
        generator=f", {format_count(generator)} in the mapping net" if generator else "",
        command=card["command"],
        pixels=settings["suite"]["image_size"] or (16 if found.suite == "digits" else 32),
    )
    return f"---\n{_metadata(name, result, rows)}\n---\n\n{body}"


def _sets(sizes: int | list[int]) -> str:
    """Return what shares a core in training, in words."""
    if sizes == 1:
        return "single images"
    text = f"{', '.join(map(str, sizes[:-1]))} or {sizes[-1]}" if isinstance(sizes, list) else str(sizes)
    return f"sets of {text} that share a core"


def _metadata(name: str, result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the front matter that the Hub reads, as YAML."""
    found = parse_bundled(name)
    data = ModelCardData(
        license="apache-2.0",
        library_name="metalora",
        pipeline_tag="image-feature-extraction",
        tags=["lora", "peft", "hypernetwork", "metalora", found.method, found.backbone, "arxiv:2504.00460"],
        # A bundled backbone is part of the package; one of timm has a page of its own.
        base_model=None if found.backbone in BUNDLED else f"timm/{found.backbone}",
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=result["suite"],
                dataset_name=f"{result['suite']}, {row['task_split']} tasks",
                dataset_split=f"{row['task_split']} query",
                metric_type="accuracy",
                metric_name=f"k-NN accuracy, K = {K}",
                metric_value=round(row["accuracy"], 4),
            )
            for row in rows
        ],
    )
    return data.to_yaml()


def write_model_card(folder: Path, name: str, card: dict[str, Any]) -> None:
    """Write the model card of a bundled adapter into its folder."""
    write_text(folder / MODEL_CARD, model_card(name, card))
