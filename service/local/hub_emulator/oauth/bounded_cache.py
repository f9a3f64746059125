"""How is memory kept from growing with every stranger's request? Only the most recent are known."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_KEPT: Final = 1_000


class Recent(Generic[V]):
    """The things that were put in last, by key."""

    def __init__(self, size: int = _KEPT) -> None:
        self._size = size
        self._kept: OrderedDict[str, V] = OrderedDict()

    def put(self, key: str, value: V) -> None:
        """Keep something, and forget the oldest if there are too many."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def get(self, key: str) -> V | None:
        """Return what was put in under a key, if it is still known."""
        return self._kept.get(key)

    def take(self, key: str) -> V | None:
        """Return it and forget it."""
        return self._kept.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._kept))
