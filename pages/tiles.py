"""Pictures in a row with two lines of words below each; words come from outside and are set as text."""

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
    const picture = document.createElement('img');
    picture.src = tile.picture;
    picture.alt = tile.name;
    const lines = tile.lines.map((text) => {
      const line = document.createElement('span');
      line.textContent = text.replace(/[+_/-]/g, '$&\\u200b'); // where a long name may break
      return line;
    });
    const caption = document.createElement('figcaption');
    caption.replaceChildren(...lines);
    figure.replaceChildren(picture, caption);
    return figure;
  });
  row.replaceChildren(heading, ...figures);
  row.hidden = !shown.tiles.length;
};
show();
watch('value', show);
"""


class Tiles(gr.HTML):
    """Pictures with words: value {"heading", "tiles": [{"picture" (a data URL), "name", "lines"}]}, or None."""

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any):
        super().__init__(
            value=value,
            html_template='<div class="tiles" role="group" hidden></div>',
            js_on_load=_DRAW,
            apply_default_css=False,
            **settings,
        )

    def postprocess(self, value: dict[str, Any] | None) -> str | None:
        return json.dumps(value) if isinstance(value, dict) else value

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "description": "Pictures with words as JSON."}
