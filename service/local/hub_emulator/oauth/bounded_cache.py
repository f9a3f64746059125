"""How is memory kept from growing with every stranger's request? Only the most recent are known."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_MAX_ENTRIES: Final = 1_000


class BoundedCache(Generic[V]):
    """The things that were put in last, by key."""

    def __init__(self, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[str, V] = OrderedDict()

    def put(self, key: str, value: V) -> None:
        """Keep something, and forget the oldest if there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def get(self, key: str) -> V | None:
        """Return what was put in under a key, if it is still known."""
        return self._entries.get(key)

    def pop(self, key: str) -> V | None:
        """Return it and forget it."""
        return self._entries.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))
