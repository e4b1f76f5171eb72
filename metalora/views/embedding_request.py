"""What a person asks of the map, checked: from fields on the page, or from a link."""

from collections.abc import Collection

from metalora.inspection.spaces import SPACES
from metalora.util.errors import choices
from metalora.views.app_state import DEFAULT, AppState
from metalora.views.embedding import ARRANGEMENTS, MORPH, ORIGINAL, MapRequest, Projection, Side, sides

METHODS = {"umap": "UMAP", "pca": "PCA"}


def resolve(
    app_state: AppState,
    visitor: str,
    *,
    adapter: str,
    versus: str,
    arrangement: str,
    space: str,
    method: str,
    neighbours: int,
    min_dist: float,
    aligned: bool,
    files: Collection[str] = (),
) -> tuple[MapRequest, list[Side], list[str]]:
    """Open what the settings name; a setting that cannot be had gives way to the nearest valid one.

    Returns:
        The settings that hold, the sides of the map, and a sentence on each setting that was replaced.

    Raises:
        InputError: an adapter is damaged.
    """
    titles, notes = app_state.adapters(visitor), []

    def checked(value: str, valid: Collection[str], default: str, what: str) -> str:
        if value in valid:
            return value
        notes.append(f"Unknown {what} {value!r}: {choices(str(value), valid)}. This is {default or 'none'}.")
        return default

    adapter = checked(adapter or DEFAULT, titles, DEFAULT, "adapter")
    versus = checked(versus or "", ["", ORIGINAL, *titles], ORIGINAL, "versus")
    arrangement = checked(arrangement, ARRANGEMENTS, MORPH, "view")
    space = checked(space, SPACES, "adapted", "space")
    method = checked(method, METHODS, "umap", "projection")
    opened = [(name, app_state.open(visitor, name)) for name in (versus, adapter) if name not in ("", ORIGINAL)]
    static = [one.title for _, one in opened if not one.model.config.generates]
    if static and space == "cores":
        notes.append(f"{static[0]} generates no cores: these are its adapted features.")
        space = "adapted"
    if versus == ORIGINAL:
        opened.insert(0, (ORIGINAL, opened[-1][1]))
    shown = sides(opened, space)
    aligned = aligned and len(shown) == 2 and method == "umap"
    projection = Projection(space, method, neighbours, min_dist, aligned)
    versions = tuple(side.opened.gallery.adapter for side in shown)
    return MapRequest(adapter, versus, arrangement, projection, tuple(files), versions), shown, notes
