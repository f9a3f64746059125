"""A cache of limited size, so that requests of strangers cannot fill the memory."""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_MAX_ENTRIES: Final = 1_000


class BoundedCache(Generic[V]):
    """The most recent entries, by key."""

    def __init__(self, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[str, V] = OrderedDict()

    def put(self, key: str, value: V) -> None:
        """Add or replace an entry, and drop the oldest if there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def get(self, key: str) -> V | None:
        """Return the value of a key; None if there is none or it was dropped."""
        return self._entries.get(key)

    def pop(self, key: str) -> V | None:
        """Remove an entry and return its value, or None."""
        return self._entries.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._entries
