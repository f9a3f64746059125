"""Log lines of an outage, thinned out: the first one at once, then one a minute of each kind.

While Postgres, Redis or the Hub is away, whoever needs it tries again every second. A line for each
try would say the same until somebody mends it, and bury what else there is to read. `CauseLog`
counts for one connection; a worker that waits for its database opens a new one for each try.
"""

import math
import time
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any, Final

import structlog

OUTAGE_EVENTS: Final = frozenset(
    {
        "database.away",
        "dependency.failed",
        "doorbell.lost",
        "group.unobserved",
        "group.unseen",
        "hints.lost",
        "hints.unheard",
        "lease.unrenewed",
        "loop.interrupted",
        "outputs.unseen",
        "revision.mismatched",
        "run.unattended",
        "wake.lost",
        "worker.waiting",
    }
)
_INTERVAL: Final = timedelta(seconds=55)
"""A little less than the minute of `CauseLog`, whose lines could else be early by an instant."""
_KIND_FACTS: Final = ("event", "loop", "error", "dependency", "kind")
"""Lines that have these in common say the same; of whom else they speak does not matter."""
_MAX_KINDS: Final = 1000


class OutageFilter:
    """A processor that drops what was logged less than a minute ago, and counts it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[str, ...], tuple[float, int]] = {}
        """When a line of each kind was last logged, and how many were dropped since."""

    def __call__(
        self, _: object, __: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return the line, with the number of lines that were dropped before it.

        Raises:
            structlog.DropEvent: the line says what another one has just said.
        """
        if event["event"] not in OUTAGE_EVENTS:
            return event
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        kind = tuple(str(event.get(fact)) for fact in _KIND_FACTS)
        logged_at, dropped_count = self._kinds.get(kind, (-math.inf, 0))
        now = self._clock()
        if now - logged_at < _INTERVAL.total_seconds():
            self._kinds[kind] = (logged_at, dropped_count + 1)
            raise structlog.DropEvent
        self._kinds[kind] = (now, 0)
        if dropped_count:
            event["repeated"] = dropped_count
        return event
