"""How fast may the calls of one batch go, by what was answered to those before?

A refusal (429, 503, no connection) concerns all of them, for they go to one provider: none is sent
until the pause is over that was asked for, and then half as many at a time. Each answer lets a
little more through, until it is as many as the caller wanted.
"""

from datetime import timedelta
from typing import Final

from workers.timing import backoff

_LONGEST: Final = timedelta(hours=1)
"""No pause is longer, whatever is asked for; then it is asked again."""


class Pace:
    """The pace of one batch; moments are seconds of a clock that only goes forward."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._refusals = 0
        self._from = 0.0

    def room(self, under_way: int, *, now: float) -> int:
        """Say how many more calls may be sent."""
        return 0 if now < self._from else max(0, int(self._width) - under_way)

    def pause(self, *, now: float) -> float:
        """Say for how many seconds none may be sent."""
        return max(0.0, self._from - now)

    def answered(self) -> None:
        """Take note of an answer."""
        self._refusals = 0
        self._width = min(self._most, self._width + 1 / self._width)

    def refused(self, asked: timedelta | None, *, now: float) -> None:
        """Take note of a refusal, and of how long was asked to wait."""
        # Of what was under way when a pause began, each tells of the same one.
        if now >= self._from:
            self._width = max(1.0, self._width / 2)
            self._refusals += 1
        wait = min(asked or backoff(self._refusals - 1), _LONGEST)
        self._from = max(self._from, now + wait.total_seconds())
