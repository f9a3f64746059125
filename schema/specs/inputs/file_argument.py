"""How does a caller hand a file over, in arguments that are JSON?

By a link, which is fetched when the call is made, or by its bytes. Never by a path: there is no
file of the caller's here.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

FORMS: Final[tuple[dict[str, str], ...]] = (
    {"url": "https://example.com/picture.png"},
    {"base64": "aGVsbG8=", "name": "hello.txt"},
)
"""What to write."""
_KEYS: Final = frozenset({"url", "base64", "name"})
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file that goes along with a call: where it is, or what is in it."""

    name: str
    url: str | None
    content: bytes | None


def given_file(value: JsonValue) -> GivenFile | None:
    """Read what stands for a file; none if it is something else.

    Raises:
        ValueError: it was to be a file, and cannot be one.
    """
    if isinstance(value, str):
        return _linked(value, None)
    if not isinstance(value, dict):
        return None
    if not value or value.keys() - _KEYS or value.keys() == {"name"}:
        return None
    name, url, written = value.get("name"), value.get("url"), value.get("base64")
    if not isinstance(name, str | None):
        raise _wrong("its name is not a text")
    if isinstance(url, str) and written is None:
        return _linked(url, name)
    if isinstance(written, str) and url is None:
        return GivenFile(plain_name(name or "file"), None, _decoded(written))
    raise _wrong("it has no url, or no base64, or both")


def _linked(url: str, name: str | None) -> GivenFile:
    if not url.startswith("https://"):
        raise _wrong(f"{url[:60]!r} is not an https:// address")
    try:
        last = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        raise _wrong(f"{url[:60]!r} is not an address") from None
    return GivenFile(plain_name(name or last or "file"), url, None)


def _decoded(written: str) -> bytes:
    try:
        return b64decode(written, validate=True)
    except ValueError:
        raise _wrong("its base64 cannot be read") from None


def plain_name(name: str) -> str:
    """Make a file name that means nothing else; Spaces go by what follows its last dot."""
    return _UNSAFE.sub("_", name)[-_NAME:].lstrip(".") or "file"


def _wrong(why: str) -> ValueError:
    return ValueError(
        f'{why}; write {{"url": "https://…"}} or {{"base64": "…", "name": "picture.png"}}'
    )
