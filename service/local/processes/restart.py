"""Restart of a server that ended by itself, with growing pauses.

The first pause is half a second, and each further one is twice as long, so a server that cannot
run does not fill the log. After a server has run for a minute the pauses start anew.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

from service.local.errors import CannotStart

_FIRST_PAUSE: Final = timedelta(seconds=0.5)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_BACKOFF_RESET_AFTER: Final = timedelta(minutes=1)


class RestartableServer(Protocol):
    """A server that can be started again; `exit_code` is None unless it ended by itself."""

    @property
    def name(self) -> str: ...

    @property
    def exit_code(self) -> int | None: ...

    def start(self) -> object: ...


class ServerRestarter:
    """Restarts one server each time it ends by itself."""

    def __init__(self, server: RestartableServer, report: Callable[[str], None]) -> None:
        self._server = server
        self._report = report
        self._pause = _FIRST_PAUSE
        self._started_at = time.monotonic()
        self._restart_at: float | None = None

    def restart_if_ended(self) -> None:
        """Schedule a restart if the server has ended, or start it if the pause is over."""
        now = time.monotonic()
        if self._restart_at is None:
            if self._server.exit_code is not None:
                self._schedule_restart(
                    f"{self._server.name} ended with exit code {self._server.exit_code}."
                )
        elif now >= self._restart_at:
            self._restart_at, self._started_at = None, now
            try:
                self._server.start()
            except CannotStart as error:
                self._schedule_restart(str(error))

    def _schedule_restart(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._started_at > _BACKOFF_RESET_AFTER.total_seconds():
            self._pause = _FIRST_PAUSE
        self._restart_at = now + self._pause.total_seconds()
        self._report(f"{reason}\nStarting it again in {self._pause.total_seconds():g} s.")
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
