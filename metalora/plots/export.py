"""Figures as files."""

from pathlib import Path

import plotly.graph_objects as go

from metalora.util.errors import InputError
from metalora.util.files import write_text, write_whole
from metalora.util.paths import expand


def save_figure(figure: go.Figure, path: str | Path) -> None:
    """Write a figure: .html as on the screen, or .png, .svg and .pdf with kaleido and Chrome.

    Raises:
        InputError: another ending, or kaleido and Chrome are not installed.
    """
    path = expand(path)
    if path.suffix == ".html":
        write_text(path, figure.to_html())
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path} is not a figure: name a file that ends with .html, .png, .svg or .pdf.")
    try:
        content = figure.to_image(path.suffix[1:], scale=2)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{path.suffix} needs kaleido and Chrome, which are not installed: name an .html file."
        ) from error
    write_whole((path, lambda temporary: temporary.write_bytes(content)))
