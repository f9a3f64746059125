"""Which of the names there are was meant, when the one that was written is none of them?"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SEPARATORS: Final = str.maketrans("_ .", "---")
_MAX_COMPARED_CHARS: Final = 100
"""How much of a name is compared: that takes time which grows with the square of the length."""


def closest_names(name: str, known: Iterable[str], *, max_names: int = 3) -> list[str]:
    """Return the names that may have been meant, the likeliest first; none if nothing is near.

    Case and separators do not count, and part of a name stands for all that have it: `a10g` gives
    `a10g-small` and its sisters.
    """
    wanted = normalize_name(name[:_MAX_COMPARED_CHARS])
    names = {normalize_name(each): each for each in known}
    if not wanted or wanted in names:
        return [names[wanted]] if wanted else []
    sisters = [each for each in names if each.startswith(wanted) or wanted in each.split("-")]
    near = get_close_matches(wanted, names, n=max_names, cutoff=0.5)
    return [names[each] for each in dict.fromkeys([*sisters, *near])][:max_names]


def normalize_name(name: str) -> str:
    """Write a name the way all names are compared: lower case, with hyphens."""
    return name.strip().lower().translate(_SEPARATORS)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether something near was meant; nothing if nothing is."""
    near = closest_names(name, known)
    return f"Did you mean {' or '.join(near)}?" if near else ""
