"""When does a schedule fire? Cron as Debian reads it, by the clocks of a time zone.

A time that a clock skips in spring counts as soon as it has skipped it; one that it shows twice in
autumn counts once, the first time. What repeats within the day (`0 * * * *`, `*/10 * * * *`) keeps
its distance instead. So says Debian's cron, and `cronsim` after it.

Names of zones are looked up in a list before a file of that name is opened, and no expression may
ask for more than one firing in five minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from schema.common.errors import Invalid
from schema.common.name_matching import did_you_mean
from schema.common.text import quote_value

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
"""How many letters an expression may have."""
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
        """Check an expression and the name of a zone.

        Raises:
            Invalid: one of them cannot be read, or it fires too often, or never.
        """
        rhythm = cls(" ".join(cron.split()), _parse_zone(timezone))
        expression = CRON_ALIASES.get(rhythm.cron.lower())
        if rhythm.cron.startswith("@"):
            if expression is None:
                near = did_you_mean(rhythm.cron, CRON_ALIASES)
                raise _invalid(
                    "cron",
                    f"{quote_value(rhythm.cron)} is no name for one.",
                    near,
                    _SYNTAX_HINT,
                )
            rhythm = cls(rhythm.cron.lower(), rhythm.timezone)
        elif len(rhythm.cron) > _MAX_EXPRESSION_CHARS or len(rhythm.cron.split()) != _FIELD_COUNT:
            raise _invalid("cron", f"{quote_value(rhythm.cron)} has not five fields.", _SYNTAX_HINT)
        rhythm._check_frequency()
        return rhythm

    def next_after(self, moment: datetime) -> datetime:
        """Return the first firing after a moment, in UTC.

        Raises:
            Invalid: there is none within fifty years.
        """
        for found in self._iterate_from(moment):
            # Compared in UTC: of two times of one zone Python compares what the clocks show.
            if found.astimezone(UTC) > moment:
                return found.astimezone(UTC)
        raise _invalid("cron", f"{self.cron!r} never fires: there is no such day.")

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """Return the next firings after a moment, as the clocks of the zone show them."""
        found: list[datetime] = []
        for _ in range(count):
            moment = self.next_after(moment)
            found.append(moment.astimezone(ZoneInfo(self.timezone)))
        return found

    def _check_frequency(self) -> None:
        try:
            shape = CronSim(CRON_ALIASES.get(self.cron, self.cron), _REFERENCE_TIME)
        except CronSimError as error:
            raise _invalid(
                "cron", f"{self.cron!r} cannot be read: {error}.", _SYNTAX_HINT
            ) from None
        minutes, hours = sorted(shape.minutes), sorted(shape.hours)
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


@cache
def _zone_names() -> dict[str, str]:
    listed = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return {name.casefold(): name for name in listed}


def _parse_zone(name: str) -> str:
    zones = _zone_names()
    found = zones.get(name.strip().replace(" ", "_").casefold())
    if found is None:
        near = did_you_mean(name, zones.values())
        form = 'Write its IANA name, such as "Europe/Paris", or "UTC".'
        raise _invalid("timezone", f"there is no time zone {quote_value(name)}.", near, form)
    return found


def _invalid(argument: str, *sentences: str) -> Invalid:
    return Invalid(f"{argument}: {' '.join(filter(None, sentences))}")
