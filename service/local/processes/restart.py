"""When is a server that ended by itself started again?

At once the first time, then after ever longer pauses, so that one that cannot run says so without
filling the log; one that ran for a while is trusted again.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

from service.local.errors import CannotStart

_FIRST_PAUSE: Final = timedelta(seconds=0.5)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_TRUSTED_AFTER: Final = timedelta(minutes=1)


class Server(Protocol):
    """What can be started again: `exit_code` is None unless it ended by itself."""

    @property
    def name(self) -> str: ...

    @property
    def exit_code(self) -> int | None: ...

    def start(self) -> object: ...


class Revival:
    """Starts one server again each time it ends by itself."""

    def __init__(self, server: Server, report: Callable[[str], None]) -> None:
        self._server = server
        self._report = report
        self._pause = _FIRST_PAUSE
        self._started = time.monotonic()
        self._due: float | None = None

    def look(self) -> None:
        """Notice an end, or start the server again if its pause is over."""
        now = time.monotonic()
        if self._due is None:
            if self._server.exit_code is not None:
                self._plan(f"{self._server.name} ended with exit code {self._server.exit_code}.")
        elif now >= self._due:
            self._due, self._started = None, now
            try:
                self._server.start()
            except CannotStart as problem:
                self._plan(str(problem))

    def _plan(self, what: str) -> None:
        now = time.monotonic()
        if now - self._started > _TRUSTED_AFTER.total_seconds():
            self._pause = _FIRST_PAUSE
        self._due = now + self._pause.total_seconds()
        self._report(f"{what}\nStarting it again in {self._pause.total_seconds():g} s.")
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
