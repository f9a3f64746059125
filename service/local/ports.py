"""Loopback ports for local servers, the same at each start where possible."""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.local.data_dir import write_private_file
from service.local.errors import CannotStart

_MAX_ATTEMPTS: Final = 3


def start_on_stable_port(
    port_file: Path, start: Callable[[int], None], preferred: int | None = None
) -> int:
    """Start a server on its stable port; try again if another program takes the port first."""
    for _ in range(_MAX_ATTEMPTS):
        port = choose_stable_port(port_file, preferred)
        try:
            start(port)
        except CannotStart:
            if is_port_free(port):
                raise
        else:
            return port
    raise CannotStart(f"Other programs took {_MAX_ATTEMPTS} loopback ports in a row. Try again.")


def choose_stable_port(port_file: Path, preferred: int | None = None) -> int:
    """Return a free port: the one in `port_file` from last time, else `preferred`, else any."""
    candidates = [] if preferred is None else [preferred]
    with suppress(FileNotFoundError, ValueError):
        candidates.insert(0, int(port_file.read_text(encoding="utf-8")))
    port = next(filter(is_port_free, candidates), None) or find_free_port()
    write_private_file(port_file, str(port))
    return port


def is_port_free(port: int) -> bool:
    """Say whether a server could listen on the loopback `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
