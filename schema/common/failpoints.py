"""Where a crash test may end this process: between any two steps, one of which could be the last.

Disarmed, as they are everywhere else, each costs one comparison. `tests.crash` reads their names
out of the source, so one that is added is one that is tested.
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
    """How many more times the place may be passed, this one included."""
    signal: signal.Signals

    @classmethod
    def parse(cls, setting: str) -> Self:
        name, _, rest = setting.partition(":")
        visit, _, deed = rest.partition(":")
        if not visit.isdigit() or deed not in _SIGNALS:
            raise Invalid(f"{setting!r} is not a failpoint; write NAME:VISIT:kill or :stop.")
        return cls(name, int(visit), _SIGNALS[deed])


_armed_failpoint: _Failpoint | None = None


def arm(setting: str | None) -> None:
    """Choose the one place where this process is to end (`kill`) or freeze (`stop`), if any.

    Raises:
        Invalid: the setting is not of the form `NAME:VISIT:kill`.
    """
    global _armed_failpoint  # noqa: PLW0603  # it is the process that ends
    _armed_failpoint = _Failpoint.parse(setting) if setting else None


def hit_failpoint(name: str) -> None:
    """Pass a place where the process may be told to end."""
    if _armed_failpoint is not None and _armed_failpoint.name == name:
        _armed_failpoint.remaining_hits -= 1
        if _armed_failpoint.remaining_hits == 0:
            os.kill(os.getpid(), _armed_failpoint.signal)
