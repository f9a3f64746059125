"""When a schedule fires: by the clocks of its zone, through everything that clocks do."""

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.common.errors import Invalid
from schema.schedules.cron import CRON_ALIASES, CronTrigger

PARIS: Final = "Europe/Paris"

TIMES: Final = {
    "a weekday morning keeps its hour over the change of clocks": (
        ("0 9 * * 1-5", PARIS, "2026-03-27T12:00Z"),
        ["2026-03-30T09:00+02:00", "2026-03-31T09:00+02:00"],
    ),
    "an hour that the clocks skip counts when they have skipped it": (
        ("30 2 * * *", PARIS, "2026-03-28T12:00Z"),
        ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
    ),
    "an hour that the clocks show twice counts the first time": (
        ("30 2 * * *", PARIS, "2026-10-24T12:00Z"),
        ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
    ),
    "and not again for whoever asks between the two": (
        ("45 2 * * *", PARIS, "2026-10-25T01:30Z"),
        ["2026-10-26T02:45+01:00"],
    ),
    "what repeats each hour keeps its distance in spring": (
        ("0 * * * *", PARIS, "2026-03-29T00:30Z"),
        ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"],
    ),
    "and in autumn": (
        ("0 * * * *", PARIS, "2026-10-24T23:30Z"),
        ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
    ),
    "two times that fall together are one": (
        ("0 2,3 * * *", PARIS, "2026-03-28T12:00Z"),
        ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"],
    ),
    "a zone that moves its clocks by half an hour": (
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T00:00Z"),
        ["2026-10-03T02:15+10:30", "2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
    ),
    "a zone with a quarter of an hour in it": (
        ("@daily", "asia/kathmandu", "2026-01-01T00:00Z"),
        ["2026-01-02T00:00+05:45"],
    ),
    "a leap day": (
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z"),
        ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"],
    ),
    "a leap day, over a year that is none": (
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00Z"),
        ["2104-02-29T00:00+00:00"],
    ),
    "the ends of months": (
        ("0 0 L * *", "UTC", "2027-01-31T12:00Z"),
        ["2027-02-28T00:00+00:00", "2027-03-31T00:00+00:00", "2027-04-30T00:00+00:00"],
    ),
    "the 31st, where there is one": (
        ("0 0 31 * *", "UTC", "2026-03-31T12:00Z"),
        ["2026-05-31T00:00+00:00", "2026-07-31T00:00+00:00"],
    ),
    "a day of the month or of the week, as cron has it": (
        ("0 0 13 * 5", "UTC", "2026-11-10T00:00Z"),
        ["2026-11-13T00:00+00:00", "2026-11-20T00:00+00:00"],
    ),
    "years ahead": (
        ("0 0 * 2 MON#5", "UTC", "2026-01-01T00:00Z"),
        ["2044-02-29T00:00+00:00"],
    ),
}

REFUSED: Final = {
    "0 0 31 2 *": "cannot be read: Bad day-of-month",
    "0 0 */20 * 1L": "never fires",
    "* * * * *": "more often than every 5 minutes",
    "*/4 * * * *": "more often than every 5 minutes",
    "58,2 * * * *": "more often than every 5 minutes",
    "0,1 0 1 1 *": "more often than every 5 minutes",
    "0 9 * *": "has not five fields",
    "0 0 9 * * *": "has not five fields",
    "": "has not five fields",
    "0 24 * * *": "cannot be read: Bad hour",
    "0 9 * * 8": "cannot be read: Bad day-of-week",
    "0 9 * * 1L/2": "cannot be read",
    "0/0 * * * *": "cannot be read",
    "٣ 9 * * *": "cannot be read",
    "@hourlyy": "Did you mean @hourly",
    "@every 1h": "is no name for one",
    "@reboot": "is no name for one",
    ",".join(["0"] * 60) + " * * * *": "has not five fields",
}

ZONES_REFUSED: Final = {
    "Europe/Pari": "Did you mean Europe/Paris",
    "CET+2": "there is no time zone",
    "../../../../etc/passwd": "there is no time zone",
    "/etc/localtime": "there is no time zone",
    "localtime": "there is no time zone",
    "": "there is no time zone",
    "Europe": "there is no time zone",
}


@pytest.mark.parametrize("what", TIMES)
def test_a_schedule_fires_at_the_times_its_clocks_show(what: str) -> None:
    """A daily job that runs twice, or not at all, twice a year is what cron is known for."""
    (cron, zone, start), expected = TIMES[what]

    moments = CronTrigger.parse(cron, zone).upcoming(datetime.fromisoformat(start), len(expected))

    assert [moment.isoformat(timespec="minutes") for moment in moments] == expected


@pytest.mark.parametrize("cron", REFUSED)
def test_what_cannot_fire_or_would_too_often_is_refused(cron: str) -> None:
    """A schedule that is accepted, and then never fires, is found out months later."""
    with pytest.raises(Invalid, match=REFUSED[cron]) as refusal:
        CronTrigger.parse(cron, "UTC")

    assert str(refusal.value).startswith("cron: ")


@pytest.mark.parametrize("zone", ZONES_REFUSED)
def test_a_zone_that_is_none_is_refused_and_no_file_is_opened_for_it(zone: str) -> None:
    """`zoneinfo` opens a file of that name."""
    with pytest.raises(Invalid, match=ZONES_REFUSED[zone]):
        CronTrigger.parse("@daily", zone)


@pytest.mark.parametrize("name", CRON_ALIASES)
def test_a_name_is_short_for_five_fields(name: str) -> None:
    """They are what Hugging Face takes for its own scheduled jobs."""
    now = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)

    assert CronTrigger.parse(name.upper(), "UTC").upcoming(now, 3) == CronTrigger(
        CRON_ALIASES[name], "UTC"
    ).upcoming(now, 3)


@settings(max_examples=150)
@given(
    minute=st.sampled_from(["0", "30", "*/5", "2,58", "59"]),
    hour=st.sampled_from(["*", "2", "1,2,3", "*/6", "23"]),
    day=st.sampled_from(["*", "31", "L", "29"]),
    zone=st.sampled_from([PARIS, "UTC", "Australia/Lord_Howe", "America/St_Johns", "Asia/Gaza"]),
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds the zone
)
def test_time_only_goes_forward(
    minute: str, hour: str, day: str, zone: str, moment: datetime
) -> None:
    """A next time that is not after the last would be fired for ever, at once."""
    rhythm = CronTrigger(f"{minute} {hour} {day} * *", zone)

    first, second = rhythm.upcoming(moment, 2)

    assert moment < first.astimezone(UTC) < second.astimezone(UTC)
