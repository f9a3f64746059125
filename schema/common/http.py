"""HTTP rules: which URLs are safe from changes on the way, no cookies, bounded bodies."""

from collections.abc import AsyncIterable
from datetime import timedelta
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit


def is_secure_url(url: str) -> bool:
    """Say whether this is HTTPS, or HTTP within this machine, and names no user and no fragment."""
    try:
        parts = urlsplit(url)
        is_loopback = _is_loopback(parts)
    except ValueError:
        return False
    is_protected = parts.scheme == "https" or (parts.scheme == "http" and is_loopback)
    is_plain = "@" not in parts.netloc and not parts.fragment
    return is_protected and is_plain and bool(parts.hostname)


def _is_loopback(parts: SplitResult) -> bool:
    name = parts.hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


SUBDOMAIN_PLACEHOLDER: Final = "{subdomain}"
"""What stands for the subdomain of a Space in the setting of its address."""


def make_reject_all_cookie_jar() -> CookieJar:
    """Make a jar that takes no cookie from any server."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


REDIRECT_STATUSES: Final = frozenset(
    {
        *(HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER),
        *(HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT),
    }
)
UNCOMPRESSED: Final = {"accept-encoding": "identity"}
"""Asks for a body as it is: a few bytes that unpack to gigabytes would be unpacked at once."""


async def read_bounded(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    """Read a body to its end, or to the first chunk past `max_bytes`.

    A result that is longer than `max_bytes` means that the body is too large.
    """
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > max_bytes:
            break
    return bytes(content)


def retry_after_header(delay: timedelta) -> dict[str, str]:
    """Write the header that says when to try again: whole seconds, at least one."""
    return {"retry-after": str(max(1, round(delay.total_seconds())))}
