"""Figures as files."""

from pathlib import Path

import plotly.graph_objects as go

from metalora.util.errors import InputError
from metalora.util.files import write_text, write_whole


def draw(figure: go.Figure, path: Path) -> None:
    """Write a figure: .html as it is on the screen, .png, .svg and .pdf by way of kaleido and Chrome.

    Raises:
        InputError: another ending, or kaleido and Chrome are not here.
    """
    if path.suffix == ".html":
        write_text(path, figure.to_html())
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path} is no figure: name a file that ends with .html, .png, .svg or .pdf.")
    try:
        content = figure.to_image(path.suffix[1:], scale=2)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path.suffix} needs kaleido and Chrome, which are not here: name an .html file.") from error
    write_whole((path, lambda temporary: temporary.write_bytes(content)))
