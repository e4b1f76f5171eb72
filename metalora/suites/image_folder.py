"""A person's own images: PATH/task/class/image, or PATH/class/image shown through ten domain transforms.

PATH is a folder or an archive; see `find_meaning` for what its folders mean.
"""

from metalora.suites.config import SuiteConfig
from metalora.suites.decoding import Decoding
from metalora.suites.folder_layout import numbered_anew, read_layout
from metalora.suites.image_cache import decoded_images
from metalora.suites.images import Progress
from metalora.suites.labelled import labelled_suite
from metalora.suites.suite import Suite


def folder(config: SuiteConfig, seed: int, progress: Progress | None = None) -> Suite:
    """Build the suite "folder:PATH", of 32 pixels unless another size is given.

    Raises:
        InputError: No image can be read, or see `labelled_suite`.
    """
    decoding = Decoding(bands=config.bands)
    images = decoded_images(
        config.source, config.pixels, progress=progress, decoding=decoding, encoding=config.name_encoding
    )
    layout = read_layout(images, config.layout)
    return labelled_suite(layout, config, seed, apart=numbered_anew(layout) if any(layout.tasks) else False)
