"""Files in the JSON arguments of a call: a URL, a file of the Hub, or the bytes in base 64.

A worker fetches the URL when it makes the call, and reads a file of the Hub with the token of the
caller. A path is never accepted: no file of the caller is on this machine.
"""

import json
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from schema.common.text import quote_value
from schema.specs.inputs import base64_bytes
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.inputs.url_scheme import lower_scheme

FILE_ARGUMENT_EXAMPLES: Final[tuple[dict[str, str], ...]] = (
    {"url": "https://example.com/picture.png"},
    {"base64": "aGVsbG8=", "name": "hello.txt"},
)
"""Examples for messages and descriptions."""
_KEYS: Final = frozenset({"url", "base64", "name"})
_UNSAFE_CHARS: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS: Final = 100


@dataclass(frozen=True, slots=True)
class FileArgument:
    """A file that goes along with a call: its address or its content."""

    name: str
    url: str | None
    """Of the web; or the `hf://` URI of a file of the Hub."""
    content: bytes | None


def parse_file_argument(value: JsonValue) -> FileArgument | None:
    """Parse a file; return None if the value has not the form of one.

    Raises:
        ValueError: it has the form of a file, and cannot be one.
    """
    if isinstance(value, str):
        return _from_url(value, None)
    if not isinstance(value, dict):
        return None
    if not value or value.keys() - _KEYS or value.keys() == {"name"}:
        return None
    name, url, encoded = value.get("name"), value.get("url"), value.get("base64")
    if not isinstance(name, str | None):
        raise _invalid_file("its name is not a text")
    if isinstance(url, str) and encoded is None:
        return _from_url(url, name)
    if isinstance(encoded, str) and url is None:
        return FileArgument(safe_file_name(name or "file"), None, _decode_base64(encoded))
    raise _invalid_file("it needs either url or base64")


def expect_file_argument(value: JsonValue) -> FileArgument:
    """Parse what has to be a file.

    Raises:
        ValueError: it is none.
    """
    file = parse_file_argument(value)
    if file is None:
        raise _invalid_file(f"{quote_value(json.dumps(value))} is no file")
    return file


def _from_url(url: str, name: str | None) -> FileArgument:
    if base64_bytes.is_data_url(url):
        return FileArgument(safe_file_name(name or "file"), None, _decode_base64(url))
    url = lower_scheme(url)
    if url.startswith(HUB_URI_SCHEME):
        last = HubUri.parse(url).path.rpartition("/")[2]
        return FileArgument(safe_file_name(name or last), url, None)
    if not url.startswith("https://"):
        raise _invalid_file(f"{quote_value(url)} is not an https:// or hf:// address")
    try:
        last = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        raise _invalid_file(f"{quote_value(url)} is not an address") from None
    return FileArgument(safe_file_name(name or last or "file"), url, None)


def _decode_base64(text: str) -> bytes:
    try:
        return base64_bytes.decode_text(text)
    except ValueError:
        raise _invalid_file("its base64 cannot be read") from None


def safe_file_name(name: str) -> str:
    """Replace every character that could mean something else; Spaces need the extension."""
    return _UNSAFE_CHARS.sub("_", name)[-_MAX_NAME_CHARS:].lstrip(".") or "file"


def _invalid_file(reason: str) -> ValueError:
    return ValueError(
        f'{reason}; write {{"url": "https://…"}} (or hf://…), or {{"base64": "…", "name": "a.png"}}'
    )
