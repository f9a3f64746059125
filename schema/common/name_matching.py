"""Suggestions for a name that does not exist: which of the known names was meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SEPARATORS: Final = str.maketrans("_ .", "---")
_MAX_COMPARED_CHARS: Final = 100
"""How much of a name is compared: that takes time which grows with the square of the length."""


def closest_names(name: str, known: Iterable[str], *, max_names: int = 3) -> list[str]:
    """Return the known names that may have been meant, the likeliest first.

    Case and separators do not count. A part of a name stands for all names that have it: `a10g`
    gives `a10g-small` and the other flavors of that family.
    """
    query = normalize_name(name[:_MAX_COMPARED_CHARS])
    originals = {normalize_name(original): original for original in known}
    if not query or query in originals:
        return [originals[query]] if query else []
    family = [other for other in originals if other.startswith(query) or query in other.split("-")]
    close = get_close_matches(query, originals, n=max_names, cutoff=0.5)
    return [originals[match] for match in dict.fromkeys([*family, *close])][:max_names]


def normalize_name(name: str) -> str:
    """Write a name in the form in which names are compared: lower case, with hyphens."""
    return name.strip().lower().translate(_SEPARATORS)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write the question whether a close name was meant; empty if no name is close."""
    names = closest_names(name, known)
    return f"Did you mean {' or '.join(names)}?" if names else ""
