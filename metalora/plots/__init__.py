"""Plotly figures from what the library computed: data in, `go.Figure` out, the same colours everywhere.

Themes: "light" and "dark" have no background of their own and fit the width of their page; "print" is for files.
"""

from metalora.plots.comparison import budget_scatter, task_heatmap
from metalora.plots.cores import code_scatter, core_values, similarities, strengths
from metalora.plots.export import save_figure
from metalora.plots.fingerprint import fingerprint
from metalora.plots.palette import Theme, VariantStyle, class_colours, variant_style
from metalora.plots.scatter import embedding_scatter
from metalora.plots.training_curves import training_curves
from metalora.plots.update import update_weights

__all__ = [
    "Theme",
    "VariantStyle",
    "budget_scatter",
    "class_colours",
    "code_scatter",
    "core_values",
    "embedding_scatter",
    "fingerprint",
    "save_figure",
    "similarities",
    "strengths",
    "task_heatmap",
    "training_curves",
    "update_weights",
    "variant_style",
]
