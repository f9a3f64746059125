"""Paths of files in buckets and repositories."""

from typing import Annotated, Final

from pydantic import AfterValidator

from schema.common.text import quote_value

_MAX_PATH_CHARS: Final = 1024
_MAX_SHOWN_CHARS: Final = 80


def is_valid_path(path: str) -> bool:
    """Say whether a path names a file inside a bucket or repository, and nothing outside it."""
    return (
        0 < len(path) <= _MAX_PATH_CHARS
        and path.isprintable()
        and not {"", ".", ".."}.intersection(path.split("/"))
        and "\\" not in path
    )


def _check_path(path: str) -> str:
    if not is_valid_path(path):
        message = f"Invalid path {quote_value(path, _MAX_SHOWN_CHARS)}"
        raise ValueError(message)
    return path


FilePath = Annotated[str, AfterValidator(_check_path)]
"""A field of a request body that holds a valid path."""
