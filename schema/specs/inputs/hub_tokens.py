"""The shapes of tokens of the Hub, by which a token is recognized in a text."""

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import JsonValue

TOKEN_PATTERN: Final = re.compile(
    # The last two are behind a line break, or a blank, of a text in JSON.
    r"(?:(?<![A-Za-z0-9_])|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4}))(?:"
    r"hf_(?:oauth_|jwt_)?eyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|hf_oauth__refresh_[\w-]{16,}"
    r"|(?:hf|hf_oauth|hf_jwt|api_org)_[A-Za-z0-9]{30,}"
    r")",
    re.ASCII,
)
"""So long that `hf_hub_download` does not match."""
_ENCODED_FILE_KEYS: Final = frozenset({"base64", "data"})
"""Keys of files in base 64, in which any letters may follow each other."""


def find_token(value: Any) -> list[str] | None:
    """Return the keys that lead to the first token in a text or JSON; None if there is none."""
    return next(_iter_token_paths(value), None)


def _iter_token_paths(value: JsonValue) -> Iterator[list[str]]:
    if isinstance(value, str):
        if TOKEN_PATTERN.search(value):
            yield []
    elif isinstance(value, dict):
        for key, inside in value.items():
            if TOKEN_PATTERN.search(key):
                yield []
            if key not in _ENCODED_FILE_KEYS:
                yield from ([key, *path] for path in _iter_token_paths(inside))
    elif isinstance(value, list):
        for inside in value:
            yield from _iter_token_paths(inside)
