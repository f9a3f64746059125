"""The log of a job, up to a size, and the signal for those who wait for its next line."""

import asyncio
from datetime import datetime
from typing import Final, NamedTuple

from service.local.hub_emulator.shared.clock import read_clock

_MAX_LOG_BYTES: Final = 16 * 1024 * 1024
"""Memory for one log, roughly."""
_LINE_OVERHEAD_BYTES: Final = 200
_FULL_NOTICE: Final = "===== The local Hub keeps no more of this log ====="


class LocalLogLine(NamedTuple):
    """One line of a log, and when it was read from the process."""

    timestamp: datetime
    text: str


class ChangeSignal:
    """Wakes all who wait for a change.

    To miss no change, look at the state first and then wait, without an `await` in between.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who are waiting now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next call of `notify`."""
        await self._event.wait()


class LocalJobLog:
    """The log of one job, over all its attempts."""

    def __init__(self, change_signal: ChangeSignal) -> None:
        self.lines: list[LocalLogLine] = []
        self._change_signal = change_signal
        self._remaining_bytes = _MAX_LOG_BYTES

    def write(self, text: str) -> None:
        """Add a line; the first line that does not fit becomes a notice, and ends the log."""
        if self._remaining_bytes <= 0:
            return
        self._remaining_bytes -= len(text) + _LINE_OVERHEAD_BYTES
        self.lines.append(
            LocalLogLine(read_clock(), text if self._remaining_bytes > 0 else _FULL_NOTICE)
        )
        self._change_signal.notify()
