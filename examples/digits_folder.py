"""Write a folder of pictures to try things with: scikit-learn's digits as task/class/picture.png.

python examples/digits_folder.py pictures
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

TASKS = {  # what a picture of each task looks like
    "ink": ImageOps.invert,
    "chalk": lambda picture: picture,
    "turned": lambda picture: picture.rotate(90),
}


def write_pictures(folder: Path, per_class: int = 30) -> Path:
    """Write `per_class` pictures of every digit in every task, as task/class/number.png."""
    digits = load_digits()
    for digit in range(10):
        rows = np.flatnonzero(digits.target == digit)[: per_class * len(TASKS)]
        for position, row in enumerate(rows):
            task = list(TASKS)[position % len(TASKS)]  # no digit is shown in two tasks
            grey = Image.fromarray((digits.images[row] * 255 / 16).astype(np.uint8)).resize((32, 32))
            place = folder / task / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            TASKS[task](grey).convert("RGB").save(place / f"{row:04d}.png")
    return folder


if __name__ == "__main__":
    print(f"The pictures are in {write_pictures(Path(sys.argv[1]))}.")
