"""Which port may a local server listen on?"""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.local.data_dir import write_private
from service.local.errors import CannotStart

_RACES: Final = 3


def start_on_steady_port(
    path: Path, start: Callable[[int], None], preferred: int | None = None
) -> int:
    """Start a server on a steady port, anew if somebody took the port before the server did."""
    for _ in range(_RACES):
        port = steady_port(path, preferred)
        try:
            start(port)
        except CannotStart:
            if is_free(port):
                raise
        else:
            return port
    raise CannotStart(f"Other programs took {_RACES} loopback ports in a row. Try again.")


def steady_port(path: Path, preferred: int | None = None) -> int:
    """Return a free port: the one `path` remembers from last time, else `preferred`, else any."""
    wanted = [] if preferred is None else [preferred]
    with suppress(FileNotFoundError, ValueError):
        wanted.insert(0, int(path.read_text(encoding="utf-8")))
    port = next(filter(is_free, wanted), None) or free_port()
    write_private(path, str(port))
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback `port` at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
