"""Bytes that a caller sends inside of a string: base 64, alone or in a `data:` URL, and bounded."""

import base64
import binascii
import re
from typing import Final

from schema.specs.inputs import media_types

_DATA_URL: Final = re.compile(r"\s*data:[\w/+.;=-]*;base64,", re.ASCII | re.IGNORECASE)
_WHITESPACE: Final = {ord(letter): None for letter in " \t\r\n"}
_URL_SAFE_TO_STANDARD: Final = str.maketrans("-_", "+/")


def decode_base64(
    text: str, *, max_bytes: int, accepted_types: frozenset[str]
) -> tuple[bytes, str]:
    """Return the bytes and their media type, which is found in the bytes, not in a `data:` URL.

    Raises:
        ValueError: it is not base 64, is too large, or has no accepted media type.
    """
    head = _DATA_URL.match(text)
    # Four letters are three bytes. Checked first, so that nothing far too large is even copied.
    letters = len(text) - (head.end() if head else 0)
    if letters > 2 * max_bytes + 8:
        raise _too_large(max_bytes)
    encoded = (
        text[head.end() if head else 0 :]
        .translate(_WHITESPACE)
        .translate(_URL_SAFE_TO_STANDARD)
        .rstrip("=")
    )
    try:
        content = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
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
