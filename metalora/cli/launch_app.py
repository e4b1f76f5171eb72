"""`app`: the app in a browser."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import typer

from metalora.cli.options import verb


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "app", launch_app)


def launch_app() -> None:
    """Start the app in a browser.

    Gradio reads address and port from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT; METALORA_WORKSPACE names the folder
    of runs and uploads.
    """
    from metalora.util.errors import InputError

    if find_spec("gradio") is None:
        raise InputError("The app needs the package gradio, which is not installed: pip install 'metalora[app]'.")
    root = Path(__file__).parents[2]
    checkout = (root / "pyproject.toml").exists() and (root / "pages").is_dir()
    if checkout:
        sys.path.insert(0, str(root))
    elif find_spec("metalora_app") is None:
        raise InputError("The app is not installed: run pip install '.[app]' in a checkout of the project.")
    import_module("pages" if checkout else "metalora_app").main()
