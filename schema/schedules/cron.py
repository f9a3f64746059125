"""Cron expressions as Debian reads them, by the clocks of a time zone.

A time that a clock skips in spring fires right after the gap; a time that it shows twice in autumn
fires once, the first time. What repeats within the day (`0 * * * *`, `*/10 * * * *`) keeps its
distance instead. Debian's cron does this, and `cronsim` does as Debian's cron.

No expression may fire more than once in five minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from schema.common.errors import Invalid
from schema.common.name_matching import did_you_mean
from schema.common.text import quote_value
from schema.schedules.time_zones import parse_time_zone

CRON_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MIN_INTERVAL: Final = timedelta(minutes=5)
"""The least time between two firings."""
_FIELD_COUNT: Final = 5
_MAX_EXPRESSION_CHARS: Final = 100
"""The longest expression."""
_REFERENCE_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SYNTAX_HINT: Final = (
    'Write five fields, "minute hour day-of-month month day-of-week", such as "0 9 * * 1-5", or '
    "one of " + ", ".join(CRON_ALIASES) + "."
)


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """The moments at which a schedule fires."""

    cron: str
    timezone: str

    @classmethod
    def parse(cls, cron: str, timezone: str) -> Self:
        """Parse an expression and the name of a time zone.

        Raises:
            Invalid: one of them cannot be read, or the expression fires too often, or never.
        """
        trigger = cls(" ".join(cron.split()), parse_time_zone(timezone))
        expression = CRON_ALIASES.get(trigger.cron.lower())
        if trigger.cron.startswith("@"):
            if expression is None:
                suggestion = did_you_mean(trigger.cron, CRON_ALIASES)
                raise _invalid(
                    "cron",
                    f"{quote_value(trigger.cron)} is no name for one.",
                    suggestion,
                    _SYNTAX_HINT,
                )
            trigger = cls(trigger.cron.lower(), trigger.timezone)
        elif len(trigger.cron) > _MAX_EXPRESSION_CHARS or len(trigger.cron.split()) != _FIELD_COUNT:
            raise _invalid(
                "cron", f"{quote_value(trigger.cron)} has not five fields.", _SYNTAX_HINT
            )
        trigger._check_frequency()
        return trigger

    def next_after(self, moment: datetime) -> datetime:
        """Return the first firing after a moment, in UTC.

        Raises:
            Invalid: there is none within fifty years.
        """
        for firing in self._iterate_from(moment):
            # Compared in UTC: for two times in one zone Python compares what the clocks show.
            if firing.astimezone(UTC) > moment:
                return firing.astimezone(UTC)
        raise _invalid("cron", f"{self.cron!r} never fires: there is no such day.")

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """Return the next firings after a moment, as the clocks of the zone show them."""
        firings: list[datetime] = []
        for _ in range(count):
            moment = self.next_after(moment)
            firings.append(moment.astimezone(ZoneInfo(self.timezone)))
        return firings

    def _check_frequency(self) -> None:
        try:
            fields = CronSim(CRON_ALIASES.get(self.cron, self.cron), _REFERENCE_TIME)
        except CronSimError as error:
            raise _invalid(
                "cron", f"{self.cron!r} cannot be read: {error}.", _SYNTAX_HINT
            ) from None
        minutes, hours = sorted(fields.minutes), sorted(fields.hours)
        gaps = [later - earlier for earlier, later in pairwise(minutes)]
        if any((hour + 1) % 24 in hours for hour in hours):
            gaps.append(minutes[0] + 60 - minutes[-1])
        if min(gaps, default=60) < MIN_INTERVAL / timedelta(minutes=1):
            raise _invalid(
                "cron",
                f"{self.cron!r} fires more often than every 5 minutes, and each firing is a job.",
                'Write "*/5 * * * *", or what is rarer; what has to run all the time is one job.',
            )
        self.next_after(_REFERENCE_TIME)

    def _iterate_from(self, moment: datetime) -> Iterator[datetime]:
        zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        return CronSim(CRON_ALIASES.get(self.cron, self.cron), moment.astimezone(zone))


def _invalid(argument: str, *sentences: str) -> Invalid:
    return Invalid(f"{argument}: {' '.join(filter(None, sentences))}")
