"""Delays between tries, and clocks: one that cannot be set, and that of Postgres beside it."""

import random
import time
from collections import deque
from datetime import datetime, timedelta
from typing import Final

import structlog

from schema.db.database import Transaction

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


_MIN_JUMP: Final = timedelta(seconds=5)
"""Less is a clock that is being corrected little by little, or an answer that was on its way."""
_MAX_ROUND_TRIP: Final = timedelta(seconds=1)
"""An answer that took longer says too little of when it was given."""
_MAX_REMEMBERED_JUMPS: Final = 100

log = structlog.stdlib.get_logger()

_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, so that a worker knows afterwards that its lease lapsed."""


def boottime_seconds() -> float:
    """Return the seconds since a fixed moment, including those in which the machine slept."""
    return time.clock_gettime(_CLOCK_ID)


class DatabaseClock:
    """The clock of Postgres, compared with one that cannot be set, so that no jump ends anything.

    Every time in a row is by the clock of Postgres. When that clock is set forward, by an operator,
    by NTP or by a failover to another machine, what was to come is past: deadlines, leases, the
    settle window, the retention. The time did not pass, so whoever would end or delete something
    because of it first asks for the lead, and allows for so much more.

        rows written ──── the clock jumps ahead by J ──── every row has been written since
        lead 0            lead J                          lead 0

    A jump stays: the new time may be the right one. Rows from before it are off by J until all of
    them have been written again, so the lead depends on how old a time can be. A lease forgets a
    jump within a lease, a deadline of a day within a day. Rows from after it have J longer than
    they need, which costs patience and no money: the timeouts of the Hub hold.

    A clock that is set back ends nothing, so there is no lead; what is due waits for longer. When
    it is set forward again, it is ahead of the rows that were written in between.

    Each worker has to see a jump for itself. One that was started after it does not know of it, and
    ends what the rows say, as after an outage of so long (ADR 20).
    """

    def __init__(self) -> None:
        self._last_read: tuple[datetime, float] | None = None
        self._jumps: deque[tuple[float, timedelta]] = deque(maxlen=_MAX_REMEMBERED_JUMPS)
        """When each jump was noticed, and by how much the clock went ahead."""

    async def read_lead(self, tx: Transaction, lifetime: timedelta) -> timedelta:
        """Look at the clock, and return its lead over times that are at most `lifetime` old.

        Call it in the transaction that ends or deletes something because of such a time.
        """
        asked_at = boottime_seconds()
        database_time: datetime = await tx.fetchval("SELECT clock_timestamp()")
        answered_at = boottime_seconds()
        if answered_at - asked_at <= _MAX_ROUND_TRIP.total_seconds():
            self._compare(database_time, (asked_at + answered_at) / 2)
        return self.lead(lifetime)

    def lead(self, lifetime: timedelta) -> timedelta:
        """Return the lead by what was read last."""
        oldest = boottime_seconds() - lifetime.total_seconds()
        lead = jumped = timedelta(0)
        for noticed_at, jump in reversed(self._jumps):
            if noticed_at < oldest:
                break
            jumped += jump
            lead = max(lead, jumped)
        return lead

    def _compare(self, database_time: datetime, read_at: float) -> None:
        last_read, self._last_read = self._last_read, (database_time, read_at)
        if last_read is None:
            return
        database_span = database_time - last_read[0]
        real_span = timedelta(seconds=read_at - last_read[1])
        if abs(database_span - real_span) < _MIN_JUMP:
            return
        self._jumps.append((read_at, database_span - real_span))
        log.warning(
            "clock.jumped",
            database_seconds=round(database_span.total_seconds(), 1),
            real_seconds=round(real_span.total_seconds(), 1),
        )
