"""Which URLs bring what their owner published? Those whose answer nobody can change on the way."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def is_tamperproof(url: str) -> bool:
    """Say whether this is HTTPS, or HTTP within this machine, and names no user and no fragment."""
    try:
        parts = urlsplit(url)
        home = _is_this_machine(parts)
    except ValueError:
        return False
    reachable = parts.scheme == "https" or (parts.scheme == "http" and home)
    bare = "@" not in parts.netloc and not parts.fragment
    return reachable and bare and bool(parts.hostname)


def _is_this_machine(parts: SplitResult) -> bool:
    name = parts.hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
