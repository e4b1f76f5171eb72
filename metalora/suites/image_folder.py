"""A person's own images: PATH/task/class/image, or PATH/class/image shown through transforms.

PATH is a folder or an archive; see `find_meaning` for what its folders mean.
"""

from metalora.suites.config import SuiteConfig
from metalora.suites.decoding import Decoding
from metalora.suites.folder_layout import numbered_anew, read_layout
from metalora.suites.image_cache import decoded_images
from metalora.suites.images import Progress
from metalora.suites.labelled import labelled_suite
from metalora.suites.registry import split_name
from metalora.suites.suite import Suite
from metalora.util.errors import InputError


def folder(config: SuiteConfig, seed: int, progress: Progress | None = None) -> Suite:
    """Build the suite "folder:PATH", "corruptions:PATH" or "rotations:PATH", of 32 pixels unless a size is given.

    Raises:
        InputError: No image can be read, images of corruptions or rotations lie in tasks, or see `labelled_suite`.
    """
    decoding = Decoding(bands=config.bands)
    images = decoded_images(
        config.source, config.pixels, progress=progress, decoding=decoding, encoding=config.name_encoding
    )
    layout = read_layout(images, config.layout)
    if config.tasks is not None and any(layout.tasks):
        kind, path = split_name(config.name)
        raise InputError(
            f"{path} has folders of tasks ({', '.join(sorted(set(layout.tasks))[:3])}, …), but {kind} makes the tasks: "
            f"name one of these folders, or use folder:{path}."
        )
    return labelled_suite(layout, config, seed, apart=numbered_anew(layout) if any(layout.tasks) else False)
