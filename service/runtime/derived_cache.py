"""A cache of what is made of one source, such as the newest price list, until there is another."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

SourceT = TypeVar("SourceT")
ValueT = TypeVar("ValueT")


class DerivedCache(Generic[SourceT, ValueT]):
    """Values that were made of the newest source, by their keys.

    Every caller gets the same object. So nobody may change it, and nothing in it may be of one
    caller unless the key names them.
    """

    def __init__(self, *, max_values: int) -> None:
        """Bound the memory: a value too many takes the place of the oldest."""
        self._max_values = max_values
        self._source: SourceT | None = None
        self._values: dict[Hashable, ValueT] = {}

    def get_or_make(
        self, source: SourceT, key: Hashable, make: Callable[[SourceT], ValueT]
    ) -> ValueT:
        """Return the value of a key, and make it if there is none of this very source.

        Args:
            source: compared as an object, so it must never change.
            key: everything else that the value depends on.
            make: makes the value; what it raises is not cached.
        """
        if source is not self._source:
            self._source, self._values = source, {}
        if key not in self._values:
            made = make(source)
            if len(self._values) >= self._max_values:
                del self._values[next(iter(self._values))]
            self._values[key] = made
        return self._values[key]
