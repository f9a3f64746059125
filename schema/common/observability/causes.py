"""Causes of the failures of what we depend on: named in the log, but not once for each attempt.

A caller reads that the database cannot be reached. Its operator has to know why: each kind of cause
is written once a minute, with the number of those that were left out since.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import structlog

from schema.common.text import truncate

REPORT_INTERVAL: Final = timedelta(minutes=1)
"""How long the same kind of cause is counted only."""
_MAX_KINDS: Final = 100
_MAX_TEXT_CHARS: Final = 300
_URL_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]*@")
_PASSWORD: Final = re.compile(r"((?:password|passwd|secret|token)\s*[=:]\s*)\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LatestCause:
    """The newest cause that was reported."""

    text: str
    at: float
    """By the clock of its log."""


class CauseLog:
    """Writes the causes of the failures of one dependency; each process has one for each."""

    def __init__(self, dependency: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing written.

        Args:
            dependency: what fails, for people: `database`, `redis` or `hub`.
            clock: seconds from any moment on.
        """
        self._dependency = dependency
        self._clock = clock
        self.latest: LatestCause | None = None
        self._written_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}
        self._log = structlog.stdlib.get_logger()

    def report(self, error: BaseException, *, kind: str | None = None) -> None:
        """Write the cause of a failure, or count it if its kind was just written.

        Args:
            error: what was raised; its root cause is what is written.
            kind: what is counted together; None is the class of the root cause.
        """
        cause = find_root_cause(error)
        kind = kind or type(cause).__name__
        now = self._clock()
        self.latest = LatestCause(f"{self._dependency}: {describe_cause(cause)}", now)
        written_at = self._written_at.get(kind)
        if written_at is not None and now - written_at < REPORT_INTERVAL.total_seconds():
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        if len(self._written_at) >= _MAX_KINDS:
            self._written_at.clear()
        self._written_at[kind] = now
        self._log.error(
            "dependency.failed",
            dependency=self._dependency,
            kind=kind,
            cause=describe_cause(cause),
            left_out=self._left_out.pop(kind, 0),
        )


def find_root_cause(error: BaseException) -> BaseException:
    """Return the error that the others were raised from."""
    *_, root = list_causes(error)
    return root


def list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised from, one after another."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = None if current.__suppress_context__ else current.__context__
        current = _first_of_group(current) or current.__cause__ or hidden


def _first_of_group(error: BaseException) -> BaseException | None:
    """Return one of several failures at once, such as of all addresses of a host."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    return cast("BaseExceptionGroup[BaseException]", error).exceptions[0]


def describe_cause(error: BaseException) -> str:
    """Name the class of an error and its text, without credentials."""
    text = _URL_CREDENTIALS.sub("…@", " ".join(str(error).split()))
    text = truncate(_PASSWORD.sub(r"\1…", text), _MAX_TEXT_CHARS)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
