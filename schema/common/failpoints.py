"""Failpoints: places between two steps where a crash test ends or freezes this process.

Outside of those tests none is armed, and each costs one comparison. `tests.crash` reads their names
out of the source, so a new failpoint is tested without further work.
"""

import os
import signal
from dataclasses import dataclass
from typing import Final, Self

from schema.common.errors import Invalid

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(slots=True)
class _Failpoint:
    name: str
    remaining_hits: int
    """The visit at which the process ends, counted from now."""
    signal: signal.Signals

    @classmethod
    def parse(cls, setting: str) -> Self:
        name, _, rest = setting.partition(":")
        visit, _, action = rest.partition(":")
        if not visit.isdigit() or action not in _SIGNALS:
            raise Invalid(f"{setting!r} is not a failpoint; write NAME:VISIT:kill or :stop.")
        return cls(name, int(visit), _SIGNALS[action])


_armed_failpoint: _Failpoint | None = None


def arm(setting: str | None) -> None:
    """Arm one failpoint, at which this process ends (`kill`) or freezes (`stop`), or none.

    Raises:
        Invalid: the setting is not of the form `NAME:VISIT:kill`.
    """
    global _armed_failpoint  # noqa: PLW0603  # it ends the whole process
    _armed_failpoint = _Failpoint.parse(setting) if setting else None


def hit_failpoint(name: str) -> None:
    """End or freeze the process here, if this failpoint is armed and this is its visit."""
    if _armed_failpoint is not None and _armed_failpoint.name == name:
        _armed_failpoint.remaining_hits -= 1
        if _armed_failpoint.remaining_hits == 0:
            os.kill(os.getpid(), _armed_failpoint.signal)
