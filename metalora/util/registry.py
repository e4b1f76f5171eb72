"""A mapping of entries by name that other packages can add to."""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from metalora.util.errors import InputError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Names and entries: the built-in ones, those of `register`, and those of other packages.

    Other packages declare theirs as entry points. They are loaded once, at the first look at a name that is not
    there without them, or at all names.

    Args:
        group: group of the entry points, such as "metalora.methods".
        kind: type of an entry.
        built_in: the entries that are always there.
    """

    def __init__(self, group: str, kind: type[Entry], built_in: Mapping[str, Entry]):
        self._group, self._kind, self._built_in = group, kind, frozenset(built_in)
        self._entries, self._loaded = dict(built_in), False

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._load()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def register(self, name: str, entry: Entry) -> None:
        """Add an entry, or replace one that was added before.

        Raises:
            InputError: the name is a built-in one, or the entry is of another type.
        """
        if name in self._built_in:
            raise InputError(f"{name!r} is built in: choose another name.")
        if not isinstance(entry, self._kind):
            raise InputError(f"{name!r} is {entry!r}, not a {self._kind.__name__}: register one of these.")
        self._entries[name] = entry

    def unregister(self, name: str) -> None:
        """Take an added entry out again."""
        del self._entries[name]

    def _load(self) -> None:
        if self._loaded:
            return
        for point in entry_points(group=self._group):
            try:
                self.register(point.name, point.load())
            except Exception as error:
                plug_in = f"The plug-in {point.name!r} ({point.value}, group {self._group})"
                raise InputError(f"{plug_in} cannot be loaded ({error}): repair or uninstall its package.") from error
        self._loaded = True
