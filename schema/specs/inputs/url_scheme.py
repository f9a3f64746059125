"""Schemes of URLs, which RFC 3986 lets a caller write in either case."""

import re
from typing import Final

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://|data:[^,;]{0,100}(?=[,;])", re.IGNORECASE)


def lower_scheme(text: str) -> str:
    """Write the scheme of a URL in lower case, and with it the media type of a `data:` URL.

    A text that is no URL is returned unchanged.
    """
    start = _SCHEME.match(text)
    return text if start is None else f"{start[0].lower()}{text[start.end() :]}"
