"""The app: `python app.py`, or a Hugging Face Space."""

import gc
import importlib.util
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("METALORA_CACHE", "")  # what visitors send is kept in their own folders only

gc.disable()  # imports make a million objects that stay: looking for garbage meanwhile is a quarter of the start
if importlib.util.find_spec("spaces"):
    import spaces  # noqa: F401 - lends GPUs on ZeroGPU Spaces, and has to come before torch

from pages import launch  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    launch()
