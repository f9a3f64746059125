"""Delays between tries, and a clock that does not stop while the machine sleeps."""

import random
import time
from datetime import timedelta
from typing import Final

MIN_BACKOFF: Final = timedelta(seconds=1)
MAX_BACKOFF: Final = timedelta(minutes=5)
MAX_LAUNCH_TRIES: Final = 12
"""Launches in a row that created nothing before the job fails: about half an hour."""


def backoff(tries: int) -> timedelta:
    """Return how long to wait after the try numbered `tries`, counted from 0.

    The delay varies by half to either side, so that what failed together is not retried together.
    """
    wait = min(MIN_BACKOFF * (1 << min(tries, 20)), MAX_BACKOFF)
    return wait * random.uniform(0.5, 1.5)  # noqa: S311  # spreads load, keeps no secret


_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, so that a worker knows afterwards that its lease lapsed."""


def boottime_seconds() -> float:
    """Return the seconds since a fixed moment, including those in which the machine slept."""
    return time.clock_gettime(_CLOCK_ID)
