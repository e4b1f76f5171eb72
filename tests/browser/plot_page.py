"""A page with one plot, whose points a slider moves: `python tests/browser/plot_page.py`."""

import gradio as gr
from plotly.graph_objects import Figure, Scattergl

from pages.plot import PLOTLY_JS, Plot, marks, morph

START, END = [[0.0, 0.0], [1.0, 2.0]], [[4.0, 2.0], [1.0, 0.0]]

if __name__ == "__main__":
    gr.set_static_paths([str(PLOTLY_JS)])
    x, y = zip(*START, strict=True)
    figure = Figure(Scattergl(x=x, y=y, customdata=[[0], [1]], mode="markers"))
    value = {"figure": figure, "cards": None, "marks": marks(0, [1]), "morph": morph(END, "LoRA", "Meta-LoRA")}
    with gr.Blocks(analytics_enabled=False) as demo:
        Plot(value, label="Embedding")
    demo.launch()
