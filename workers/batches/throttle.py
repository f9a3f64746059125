"""How fast may the calls of one batch go, by what was answered to those before?

A refusal (429, 503, no connection) concerns all of them, for they go to one provider: none is sent
until the pause is over that was asked for, and then half as many at a time. Each answer lets a
little more through, until it is as many as the caller wanted.
"""

from datetime import timedelta
from typing import Final

from workers.timing import backoff

_MAX_PAUSE: Final = timedelta(hours=1)
"""No pause is longer, whatever is asked for; then it is asked again."""


class Throttle:
    """The pace of one batch; moments are seconds of a clock that only goes forward."""

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._window = float(max_concurrent)
        self._refusals = 0
        self._paused_until = 0.0

    def free_slots(self, in_flight: int, *, now: float) -> int:
        """Say how many more calls may be sent."""
        return 0 if now < self._paused_until else max(0, int(self._window) - in_flight)

    def pause_seconds(self, *, now: float) -> float:
        """Say for how many seconds none may be sent."""
        return max(0.0, self._paused_until - now)

    def record_response(self) -> None:
        """Take note of an answer."""
        self._refusals = 0
        self._window = min(self._max_concurrent, self._window + 1 / self._window)

    def record_refusal(self, retry_after: timedelta | None, *, now: float) -> None:
        """Take note of a refusal, and of how long was asked to wait."""
        # Of what was under way when a pause began, each tells of the same one.
        if now >= self._paused_until:
            self._window = max(1.0, self._window / 2)
            self._refusals += 1
        wait = min(retry_after or backoff(self._refusals - 1), _MAX_PAUSE)
        self._paused_until = max(self._paused_until, now + wait.total_seconds())
