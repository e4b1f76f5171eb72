"""Draw the fifteen corruptions on one photograph: `python docs/tools/corruptions.py`.

Writes docs/images/corruptions.jpg: every kind in the order of the paper, at severities 1, 3 and 5, pixel by pixel.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from metalora.suites.corruptions.corruption import KINDS, Corruption  # noqa: E402

PHOTOGRAPH = ROOT / "assets/photographs/cat.jpg"
FILE = ROOT / "docs/images/corruptions.jpg"
SHOWN = 1, 3, 5
COLUMNS, TITLE, GAP = 3, 18, 8  # of the sheet, and pixels


def draw(tile: int = 96) -> Image.Image:
    """Return the sheet.

    Args:
        tile: side at which the photograph is corrupted and shown, in pixels.
    """
    photograph = Image.open(PHOTOGRAPH).convert("RGB").resize((tile, tile), Image.Resampling.LANCZOS)
    image = pil_to_tensor(photograph)[None].float() / 255
    rows = -(-len(KINDS) // COLUMNS)
    width, height = len(SHOWN) * tile + GAP, tile + TITLE
    sheet = Image.new("RGB", (COLUMNS * width - GAP, rows * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, kind in enumerate(KINDS):
        left, top = number // rows * width, number % rows * height
        pen.text((left, top + 1), kind, fill="black", font=font)
        for place, severity in enumerate(SHOWN):
            shown = to_pil_image(Corruption(kind, severity)(image)[0])
            sheet.paste(shown, (left + place * tile, top + TITLE))
    return sheet


if __name__ == "__main__":
    draw().save(FILE, quality=85, optimize=True)
