"""Images in a row with two lines of text below each; texts come from outside and are never read as HTML."""

import json
from typing import Any

import gradio as gr

_DRAW = """
const row = element.querySelector('.tiles');
const show = () => {
  const shown = props.value ? JSON.parse(props.value) : {heading: '', tiles: []};
  const heading = document.createElement('p');
  heading.className = 'tiles-heading';
  heading.textContent = shown.heading;
  const figures = shown.tiles.map((tile) => {
    const figure = document.createElement('figure');
    const image = document.createElement('img');
    image.src = tile.image;
    image.alt = tile.name;
    const lines = tile.lines.map((text) => {
      const line = document.createElement('span');
      line.textContent = text.replace(/[+_/-]/g, '$&\\u200b'); // where a long name may break
      return line;
    });
    const caption = document.createElement('figcaption');
    caption.replaceChildren(...lines);
    figure.replaceChildren(image, caption);
    return figure;
  });
  row.replaceChildren(heading, ...figures);
  row.hidden = !shown.tiles.length;
};
show();
watch('value', show);
"""


class ImageTiles(gr.HTML):
    """Images with texts: value {"heading", "tiles": [{"image" (a data URL), "name", "lines"}]}, or None."""

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any):
        super().__init__(
            value=value,
            html_template='<div class="tiles" role="group" hidden></div>',
            js_on_load=_DRAW,
            apply_default_css=False,
            **settings,
        )

    def postprocess(self, value: dict[str, Any] | None) -> str | None:
        """Return the value as JSON."""
        return json.dumps(value) if isinstance(value, dict) else value

    def api_info(self) -> dict[str, Any]:
        """Describe the value for programs."""
        return {"type": "string", "description": "Images with texts as JSON."}
