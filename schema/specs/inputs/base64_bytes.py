"""Bytes that a caller sends inside of a string: base 64, alone or in a `data:` URL, and bounded."""

import base64
import re
from typing import Final
from urllib.parse import unquote

from schema.specs.inputs import media_types

_DATA_URL: Final = re.compile(r"\s*data:[^,]{0,200};\s*base64\s*,", re.IGNORECASE)
_WHITESPACE: Final = re.compile(r"\s+")
_MAX_HEAD_CHARS: Final = 250
_URL_SAFE_TO_STANDARD: Final = str.maketrans("-_", "+/")


def is_data_url(text: str) -> bool:
    """Say whether a text is a `data:` URL with base 64."""
    return _DATA_URL.match(text) is not None


def decode_text(text: str) -> bytes:
    """Return the bytes that a text stands for, in whichever common form of base 64.

    It may be in a `data:` URL, in the alphabet for URLs or file names, broken into lines, without
    its padding, or with percent signs in the place of letters that mean something in a URL.

    Raises:
        ValueError: it is not base 64.
    """
    head = _DATA_URL.match(text)
    encoded = text[head.end() if head else 0 :]
    if "%" in encoded:
        encoded = unquote(encoded)
    encoded = _WHITESPACE.sub("", encoded).translate(_URL_SAFE_TO_STANDARD).rstrip("=")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


def decode_base64(
    text: str, *, max_bytes: int, accepted_types: frozenset[str]
) -> tuple[bytes, str]:
    """Return the bytes and their media type, which is found in the bytes, not in a `data:` URL.

    Raises:
        ValueError: it is not base 64, is too large, or has no accepted media type.
    """
    # Four letters are three bytes. Checked first, so that nothing far too large is even copied.
    if len(text) > 2 * max_bytes + _MAX_HEAD_CHARS:
        raise _too_large(max_bytes)
    try:
        content = decode_text(text)
    except ValueError:
        message = (
            "this is not base 64; encode the bytes of the file themselves, with no path and no URL "
            'around them, for example "iVBORw0KGgo…"'
        )
        raise ValueError(message) from None
    if not content:
        message = "this is empty; encode the bytes of the file in base 64"
        raise ValueError(message)
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    try:
        return content, media_types.detect_media_type(content, accepted_types)
    except ValueError as error:
        message = f"these bytes cannot be used: {error}"
        raise ValueError(message) from None


def _too_large(max_bytes: int) -> ValueError:
    return ValueError(
        f"this is more than {max_bytes:,} bytes, the limit within a call; put the file on the web "
        f"or into a repository, and give its https:// URL or its hf:// URI"
    )
