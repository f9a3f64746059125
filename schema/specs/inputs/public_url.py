"""Public URLs: `https://` URLs of files that anybody on the Internet could fetch.

A URL has one strict form, and the worker connects to just the host that was parsed: no second
parser could see another host in it. A host name proves nothing, so `is_public_ip` also checks every
address that it resolves to.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Self
from urllib.parse import urljoin

IpAddress = IPv4Address | IPv6Address

_MAX_URL_CHARS: Final = 4096
_MAX_HOST_CHARS: Final = 253
_URL_PATTERN: Final = re.compile(
    r"(?i:https)://(?P<host>[A-Za-z0-9._-]+)(?::443)?(?P<path>/[^\s?#\\]*)?(?P<query>\?[^\s#\\]*)?"
    r"(?:#[^\s]*)?",
    re.ASCII,
)
_HOST_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NON_PUBLIC_TLDS: Final = frozenset(
    {"localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private"}
    | {"arpa", "alt", "onion", "test", "invalid"}
)
"""Last labels that no public host name has."""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_EXCLUDED_NETWORKS: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays into IPv6
    IPv4Network("168.63.129.16/32"),  # the metadata service of Azure
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2002::/16"),  # 6to4: any IPv4 address inside of an IPv6 one
    IPv6Network("3fff::/20"),  # documentation
)


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """A parsed `https://` URL."""

    host: str
    target: str
    """Its path and query, which are sent to that host."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL in its one form.

        Raises:
            ValueError: it has another form. The text repeats nothing of the URL, which may hold a
                secret.
        """
        match = (
            _URL_PATTERN.fullmatch(url) if url.isascii() and len(url) <= _MAX_URL_CHARS else None
        )
        host = match["host"].lower() if match else ""
        if match is None or not url.isprintable() or not _is_public_host(host):
            message = (
                "this is not the URL of a file on the public web; write one such as "
                '"https://example.com/cat.png": https, the full name of the host (no IP address, '
                "no user, no port), and in the path %-escapes for spaces and other letters"
            )
            raise ValueError(message)
        return cls(host, (match["path"] or "/") + (match["query"] or ""))

    def resolve_redirect(self, location: str) -> Self:
        """Return the target of a redirect from this URL.

        Raises:
            ValueError: the target is not a public URL.
        """
        # Unjoined if it is invalid: urljoin would drop its tabs and line ends.
        joined = urljoin(f"https://{self.host}{self.target}", location)
        return self.parse(joined if location.isprintable() else location)

    def __str__(self) -> str:
        # Without the rest, which may be a signature that gives access to the file.
        return f"https://{self.host}/…"


def is_public_ip(address: IpAddress) -> bool:
    """Say whether this is the address of one machine on the Internet."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        # Local addresses, and those that stand for an IPv4 one: mapped, compatible, NAT64.
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _EXCLUDED_NETWORKS)


def _is_public_host(host: str) -> bool:
    *labels, last = host.split(".")
    # With a number as its last label, a host is an IPv4 address in one of its many forms.
    return (
        bool(labels)
        and len(host) <= _MAX_HOST_CHARS
        and all(_HOST_LABEL.fullmatch(label) for label in (*labels, last))
        and last not in _NON_PUBLIC_TLDS
        and not _NUMERIC_LABEL.fullmatch(last)
    )
