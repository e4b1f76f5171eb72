"""Colours of classes are told apart."""

import numpy as np
import pytest

from metalora.plots.palette import class_colours

# Simulations of protanopia and deuteranopia, of linear RGB: Machado, Oliveira and Fernandes (2009).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
}
TO_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def lab(colours, blindness):
    """CIELAB of "#rrggbb", as an eye with this blindness sees them."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(BLINDNESS[blindness]), 0, 1) @ TO_XYZ.T / TO_XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize(("blindness", "least"), [("none", 25), ("protanopia", 17), ("deuteranopia", 17)])
def test_every_pair_of_the_first_ten_class_colours_is_told_apart(blindness, least):
    points = lab(class_colours("0123456789").values(), blindness)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distances[np.triu_indices(10, 1)].min() >= least
