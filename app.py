"""The app: `python app.py`, or a Hugging Face Space."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from pages import launch

if __name__ == "__main__":
    launch()
