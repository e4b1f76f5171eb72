"""The paper's Table I, as printed there."""

from metalora.experiments.table import Cell, Table

PAPER_CAPTION = "Table I of arXiv 2504.00460: k-NN accuracy in %, as printed there"

_PAPER = {
    "Original": (67.04, 61.36, 58.27, 60.83),
    "LoRA": (67.85, 62.02, 59.16, 61.22),
    "Multi-LoRA": (72.11, 68.57, 63.74, 65.49),
    "Meta-LoRA CP": (71.07, 71.29, 70.32, 72.52),
    "Meta-LoRA TR": (73.24, 71.26, 71.75, 73.87),
}
_PAPER_STARS = {73.24, 71.75, 73.87}


def paper_table() -> Table:
    """Return the paper's Table I; its data sets, ranks and splits are unpublished."""
    columns = [("", "method"), *((net, f"K={k}") for net in ("ResNet", "Mixer") for k in (5, 10))]
    best = [max(column) for column in zip(*_PAPER.values(), strict=True)]
    rows = [
        [Cell(name), *(_printed(value, top) for value, top in zip(values, best, strict=True))]
        for name, values in _PAPER.items()
    ]
    notes = [
        "*: as printed. Data sets, ranks and splits are unpublished, so these numbers cannot be compared with "
        "measured ones; what is tested here is their order."
    ]
    return Table(columns, rows, notes)


def _printed(value: float, best: float) -> Cell:
    return Cell(f"{value:.2f}{'*' if value in _PAPER_STARS else ''}", bold=value == best)
