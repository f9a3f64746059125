"""Which of the names there are was meant, when the one that was written is none of them?"""

from collections.abc import Iterable
from difflib import get_close_matches

_SEPARATORS = str.maketrans("_ .", "---")


def suggest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the names that may have been meant, the likeliest first; none if nothing is near.

    Case and separators do not count, and part of a name stands for all that have it: `a10g` gives
    `a10g-small` and its sisters.
    """
    wanted = plain(name)
    names = {plain(each): each for each in known}
    if not wanted or wanted in names:
        return [names[wanted]] if wanted else []
    sisters = [each for each in names if each.startswith(wanted) or wanted in each.split("-")]
    near = get_close_matches(wanted, names, n=most, cutoff=0.5)
    return [names[each] for each in dict.fromkeys([*sisters, *near])][:most]


def plain(name: str) -> str:
    """Write a name the way all names are compared: lower case, with hyphens."""
    return name.strip().lower().translate(_SEPARATORS)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether something near was meant; nothing if nothing is."""
    near = suggest(name, known)
    return f"Did you mean {' or '.join(near)}?" if near else ""
