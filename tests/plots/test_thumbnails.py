"""Images as data URLs: their own pixels, small ones sharp."""

import base64
import io

import numpy as np
import torch
from PIL import Image, ImageColor

from metalora.plots.thumbnails import SIDE, card, thumbnail, to_pil


def opened(url):
    head, data = url.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_thumbnail_is_a_square_png_of_the_image():
    image = torch.zeros(3, 10, 20)
    image[0, :, :10] = 1.4  # beyond what can be shown
    picture = opened(thumbnail(image))
    assert picture.size == (SIDE, SIDE) and picture.format == "PNG"
    assert picture.getpixel((2, 5)) == (255, 0, 0) and picture.getpixel((SIDE - 2, 5)) == (0, 0, 0)


def test_few_pixels_stay_sharp_and_many_are_averaged():
    def colours(side):
        board = (torch.arange(side)[:, None] + torch.arange(side)) % 2
        return {colour for _, colour in opened(thumbnail(board.float().expand(3, -1, -1))).getcolors()}

    assert colours(8) == {(0, 0, 0), (255, 255, 255)}
    assert len(colours(4 * SIDE)) > 0 and colours(4 * SIDE).isdisjoint({(0, 0, 0), (255, 255, 255)})


def test_an_image_in_its_own_size_keeps_every_pixel():
    pixels = torch.randint(256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(np.asarray(to_pil(pixels / 255)), pixels.permute(1, 2, 0))


def test_a_card_has_its_colour_and_a_legible_name():
    for colour, ink in (("#202060", (255, 255, 255)), ("#F0E442", (0, 0, 0))):
        picture = card("automobile", "noise+severity-2", colour)
        colours = {pixel for _, pixel in picture.getcolors(SIDE * SIDE)}
        assert picture.size == (SIDE, SIDE) and picture.getpixel((0, 0)) == ImageColor.getrgb(colour)
        assert ink in colours and len(colours) > 10 and thumbnail(picture)
    assert np.any(np.asarray(card("cat", "", "#202060")) != np.asarray(card("dog", "", "#202060")))
