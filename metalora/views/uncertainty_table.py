"""How uncertain the images' cores are, as an HTML table."""

from metalora.views.inspect_view import InspectView
from metalora.views.neighbour_table import image_table

HEADINGS = ("deviation of the core", "most in layer", "spread of the embedding", "same class")


def uncertainty_table(view: InspectView) -> str:
    """Return a row per image: its samples' deviation, spread and agreement; "" where cores have no distribution."""
    found = view.uncertainty
    if found is None or found.agreement is None:
        return ""
    rows = []
    for i, (name, image) in enumerate(zip(view.names, view.images, strict=True)):
        std = found.core_std.iloc[i]
        mean = std.pow(2).mean() ** 0.5
        layer = f"{std.idxmax()} ({std.max():.3f})"
        rows.append((name, image, [f"{mean:.3f}", layer, f"{found.spread[i]:.3f}", f"{found.agreement[i]:.0%}"]))
    return image_table("Uncertainty of the cores", HEADINGS, rows)
