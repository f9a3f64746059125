"""The throttle of a batch: additive increase, multiplicative decrease of its concurrent calls.

A refusal (429, 503, no connection) concerns all calls of a batch, because they go to one provider.
None is sent until the pause that was asked for is over, and then half as many at a time. Each
response lets a little more through, up to the number that the caller wanted.
"""

from datetime import timedelta
from typing import Final

from workers.timing import backoff

_MAX_PAUSE: Final = timedelta(hours=1)
"""The longest pause, whatever the provider asks for; then the next call is tried."""


class Throttle:
    """The throttle of one batch; `now` is in seconds of a monotonic clock."""

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._window = float(max_concurrent)
        self._refusals = 0
        self._paused_until = 0.0

    def free_slots(self, in_flight: int, *, now: float) -> int:
        """Return how many more calls may be sent."""
        return 0 if now < self._paused_until else max(0, int(self._window) - in_flight)

    def pause_seconds(self, *, now: float) -> float:
        """Return for how many seconds no call may be sent."""
        return max(0.0, self._paused_until - now)

    def record_response(self) -> None:
        """Let a little more through after a response."""
        self._refusals = 0
        self._window = min(self._max_concurrent, self._window + 1 / self._window)

    def record_refusal(self, retry_after: timedelta | None, *, now: float) -> None:
        """Pause after a refusal, for as long as was asked, or for a backoff."""
        # The calls that were under way when a pause began report the same refusal.
        if now >= self._paused_until:
            self._window = max(1.0, self._window / 2)
            self._refusals += 1
        wait = min(retry_after or backoff(self._refusals - 1), _MAX_PAUSE)
        self._paused_until = max(self._paused_until, now + wait.total_seconds())
