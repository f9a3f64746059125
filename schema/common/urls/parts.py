"""The parts of a server's URL, split so that no message ever repeats a piece of its password."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

_SCHEME_SEPARATOR: Final = "://"
_MAX_PORT: Final = 65535
_ENCODING_ADVICE: Final = (
    "if the name or the password has one of / ? # @ : % in it, write that character "
    "percent-encoded: %2F %3F %23 %40 %3A %25"
)


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A server's URL, decoded."""

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    """Each with its port, None for the usual one; empty if the URL names no host."""
    path: str
    """Without the leading slash."""
    parameters: dict[str, str] = field(repr=False)


def split_url(text: str, *, schemes: tuple[str, ...], example: str) -> UrlParts:
    """Split a URL into its parts.

    Args:
        text: what the operator has written.
        schemes: the schemes that are accepted; `scheme+driver` counts as `scheme`.
        example: a whole URL, for the message about one that is none.

    Raises:
        ValueError: with a sentence that says what to write, and repeats no part of the URL that
            could be a piece of a password.
    """
    scheme, separator, rest = text.strip().partition(_SCHEME_SEPARATOR)
    scheme = scheme.lower().partition("+")[0]
    if not separator or scheme not in schemes:
        message = f"write the whole URL, such as {example}"
        raise ValueError(message)
    address, _, query = rest.partition("?")
    authority, _, path = address.partition("/")
    if "#" in rest or "@" in path or "@" in query:
        message = f"the URL has a character where it cannot stand; {_ENCODING_ADVICE}"
        raise ValueError(message)
    credentials, at, host_list = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    return UrlParts(
        scheme=scheme,
        user=unquote(user) if at and user else None,
        password=unquote(password) if colon else None,
        hosts=tuple(split_host(host) for host in host_list.split(",") if host),
        path=unquote(path),
        parameters=_split_query(query),
    )


def split_host(text: str) -> tuple[str, int | None]:
    """Split a host and its port: `host`, `host:5432`, `[::1]:5432` or the path of a socket.

    Raises:
        ValueError: the port is no port.
    """
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.startswith("/"):
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    return unquote(host), parse_port(port) if port else None


def parse_port(text: str) -> int:
    """Return the number of a port.

    Raises:
        ValueError: it is none. The message does not repeat it: a password with a slash in it
            looks like a port.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _MAX_PORT):
        message = f"the port is not a number from 1 to {_MAX_PORT}; {_ENCODING_ADVICE}"
        raise ValueError(message)
    return int(text)


def _split_query(query: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return {unquote(name): unquote(value) for name, _, value in pairs}
