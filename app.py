"""The app: `python app.py`, or a Hugging Face Space."""

import importlib.util
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("METALORA_CACHE", "")  # what visitors send is kept in their own folders only

if importlib.util.find_spec("spaces"):
    import spaces  # noqa: F401 - lends GPUs on ZeroGPU Spaces, and has to come before torch

from pages import launch

if __name__ == "__main__":
    launch()
