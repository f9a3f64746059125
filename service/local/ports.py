"""Loopback ports for local servers, the same at each start where possible."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from service.local.data_dir import write_private_file
from service.local.errors import CannotStart

_MAX_ATTEMPTS: Final = 3


def start_on_stable_port(
    port_file: Path, start: Callable[[int], None], preferred: int | None = None
) -> int:
    """Start a server on its stable port; try again if another program takes the port first."""
    return begin_on_stable_port(port_file, lambda port: partial(start, port), preferred)()


def begin_on_stable_port(
    port_file: Path, begin: Callable[[int], Callable[[], None]], preferred: int | None = None
) -> Callable[[], int]:
    """Begin to start a server on its stable port.

    Args:
        port_file: where the port of the last start is.
        begin: starts the server, and returns what waits until it is ready.
        preferred: the port of a first start, if it is free.

    Returns:
        What waits, tries again if another program takes the port first, and returns the port.
    """

    def begin_once() -> tuple[int, Callable[[], None]]:
        port = choose_stable_port(port_file, preferred)
        return port, begin(port)

    port, wait = begin_once()

    def finish(port: int = port, wait: Callable[[], None] = wait) -> int:
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                wait()
            except CannotStart as error:
                if is_port_free(port) and not _says_taken(error, port):
                    raise
            else:
                return port
            if attempt < _MAX_ATTEMPTS:
                port, wait = begin_once()
        raise CannotStart(
            f"Other programs took {_MAX_ATTEMPTS} loopback ports in a row. Try again."
        )

    return finish


def _says_taken(error: CannotStart, port: int) -> bool:
    """Tell whether a server has failed for its port, which may be free again by now."""
    sentences = (os.strerror(errno.EADDRINUSE), f"Port {port} is taken")
    return any(sentence in str(error) for sentence in sentences)


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
