"""Plotly figures from what the library computed: data in, `go.Figure` out, the same colours everywhere.

Themes: "light" and "dark" have no background of their own and fit the width of their page; "print" is for files.
"""

from metalora.plots.comparison import budget_scatter, task_heatmap
from metalora.plots.cores import codes, core_values, similarities, strengths
from metalora.plots.export import draw
from metalora.plots.fingerprint import fingerprint
from metalora.plots.palette import Theme, VariantStyle, class_colours, variant_style
from metalora.plots.scatter import embedding
from metalora.plots.training_curves import training_curves
from metalora.plots.update import update_weights

__all__ = [
    "Theme",
    "VariantStyle",
    "budget_scatter",
    "class_colours",
    "codes",
    "core_values",
    "draw",
    "embedding",
    "fingerprint",
    "similarities",
    "strengths",
    "task_heatmap",
    "training_curves",
    "update_weights",
    "variant_style",
]
