"""The clock of the emulated Hub: that of another machine, which may be ahead of ours or behind."""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Final

AHEAD_VARIABLE: Final = "HOLDFAST_LOCAL_HUB_AHEAD_SECONDS"
"""How far the clock of this process is ahead of the right time; negative: behind it."""


def read_clock() -> datetime:
    """Return the time, as the Hub believes it is."""
    return datetime.now(UTC) + timedelta(seconds=_read_ahead_seconds())


def read_unix_clock() -> float:
    """Return the same time as seconds since 1970."""
    return time.time() + _read_ahead_seconds()


def _read_ahead_seconds() -> float:
    return float(os.environ.get(AHEAD_VARIABLE, "0"))
