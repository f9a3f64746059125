"""HTTP rules: secure URLs, no cookies, bounded bodies, and listening sockets."""

import errno
import os
import socket
from collections.abc import AsyncIterable, Collection
from datetime import timedelta
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from schema.common.errors import HoldfastError

LOOPBACK: Final = "127.0.0.1"
"""The address at which only this machine reaches a server."""

DEFAULT_PORT: Final = 8765
"""The port that the service listens on unless the command line names another one."""


class CannotListen(HoldfastError):
    """A server cannot have its port; the text says what to do."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        match error.errno:
            case errno.EADDRINUSE:
                sentence = f"Port {port} is taken. Choose another one with --port."
            case errno.EACCES | errno.EPERM:
                sentence = (
                    f"This account may not listen on port {port}: the system reserves low ports. "
                    f"Choose a higher one with --port, such as 8765."
                )
            case _:
                # The codes of a failed name lookup are negative.
                code = error.errno or 0
                reason = os.strerror(code) if code > 0 else "no such host"
                sentence = (
                    f"This machine cannot listen on {host}, port {port}: {reason.lower()}. "
                    f"{LOOPBACK} serves this machine alone, and 0.0.0.0 every network."
                )
        super().__init__(sentence)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        CannotListen: the port is taken or reserved, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise CannotListen(host, port, error) from None


def is_secure_url(url: str, *, plain_hosts: Collection[str] = ()) -> bool:
    """Say whether this is HTTPS, or HTTP within this machine, and names no user and no fragment.

    Args:
        url: of the server.
        plain_hosts: other hosts that may be reached by HTTP, such as a container's name.
    """
    try:
        parts = urlsplit(url)
        is_loopback = _is_loopback(parts)
    except ValueError:
        return False
    may_be_plain = is_loopback or parts.hostname in plain_hosts
    is_protected = parts.scheme == "https" or (parts.scheme == "http" and may_be_plain)
    is_plain = "@" not in parts.netloc and not parts.fragment
    return is_protected and is_plain and bool(parts.hostname)


def loopback_aliases(url: str) -> tuple[str, ...]:
    """Return a URL, and if its host is this machine, the same with the other names of that.

    People write `localhost` and `127.0.0.1` for the same, and clients compare letter by letter.
    """
    parts = urlsplit(url)
    if not _is_loopback(parts):
        return (url,)
    port = "" if parts.port is None else f":{parts.port}"
    others = (parts._replace(netloc=f"{name}{port}").geturl() for name in LOOPBACK_HOSTS)
    return tuple(dict.fromkeys((url, *others)))


def _is_loopback(parts: SplitResult) -> bool:
    name = parts.hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine in a URL."""
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
