"""What a job has written, line by line, as far as there is room for it; and who waits for more."""

import asyncio
from datetime import UTC, datetime
from typing import Final, NamedTuple

_ROOM: Final = 16 * 1024 * 1024
"""Bytes of memory for one log, roughly."""
_LINE_COST: Final = 200
_FULL: Final = "===== The local Hub keeps no more of this log ====="


class Line(NamedTuple):
    """One line of a log, and when it was read."""

    at: datetime
    text: str


class Bell:
    """Wakes whoever waits for a change: look first, then wait, with no `await` in between."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits by now."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next ring."""
        await self._rung.wait()


class Log:
    """The log of one job, over all its attempts."""

    def __init__(self, bell: Bell) -> None:
        self.lines: list[Line] = []
        self._bell = bell
        self._room = _ROOM

    def write(self, text: str) -> None:
        """Add a line; the one that no longer fits is replaced by a note, and the last."""
        if self._room <= 0:
            return
        self._room -= len(text) + _LINE_COST
        self.lines.append(Line(datetime.now(UTC), text if self._room > 0 else _FULL))
        self._bell.ring()
