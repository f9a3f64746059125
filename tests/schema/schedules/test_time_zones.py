"""Which time zone was meant: with the right sign, and with every meaning of an abbreviation."""

import re
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from schema.common.errors import Invalid
from schema.schedules.time_zones import MEANINGS, parse_time_zone

ZONE: Final = re.compile(r"\b(?:UTC|[A-Z]\w+/[\w/+-]*\w)\b")
WINTER: Final = datetime(2026, 1, 15)  # noqa: DTZ001  # its zone is what is tested
SUMMER: Final = datetime(2026, 7, 15)  # noqa: DTZ001  # its zone is what is tested


def suggestions(name: str) -> list[str]:
    """Return the zones that a refusal names, without those of its last sentence."""
    with pytest.raises(Invalid, match=r"there is no time zone .* Write its IANA name") as refused:
        parse_time_zone(name)
    text = str(refused.value).partition(". ")[2].partition("Write its")[0].partition("?")[0]
    return ZONE.findall(text)


def offsets(zone: str) -> set[timedelta | None]:
    """Return by how much the clocks of a zone are ahead of UTC, in winter and in summer."""
    return {moment.replace(tzinfo=ZoneInfo(zone)).utcoffset() for moment in (WINTER, SUMMER)}


@pytest.mark.parametrize("hours", [hours for hours in range(-12, 15) if hours])
@pytest.mark.parametrize(
    "form", ["UTC{:+d}", "GMT{:+d}", "{:+d}", "{:+03d}:00", "utc {:+d}", "UTC{:+03d}00"]
)
def test_an_offset_of_whole_hours_gets_the_zone_with_that_offset(hours: int, form: str) -> None:
    """The sign in the name of such a zone is turned round: a wrong one is hours off."""
    [zone] = suggestions(form.format(hours))

    assert offsets(zone) == {timedelta(hours=hours)}


@pytest.mark.parametrize(
    "offset", ["-09:30", "-3:30", "-02:30", "+3:30", "+0430", "+05:30", "+5:45", "+06:30"]
)
def test_an_offset_with_a_part_of_an_hour_gets_a_place_with_that_offset(offset: str) -> None:
    """There is no Etc zone for it."""
    sign, hours, minutes = re.fullmatch(r"([+-])0?(\d):?(\d\d)", offset).groups()  # type: ignore[union-attr]
    expected = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)

    [zone] = suggestions(f"UTC{offset}")

    assert expected in offsets(zone)


@pytest.mark.parametrize("offset", ["+8:45", "+9:30", "+10:30", "+12:45", "+13:45"])
def test_so_does_one_in_the_far_east(offset: str) -> None:
    """Some have it in summer only."""
    hours, minutes = map(int, offset[1:].split(":"))

    [zone] = suggestions(f"GMT{offset}")

    assert timedelta(hours=hours, minutes=minutes) in offsets(zone)


@pytest.mark.parametrize("offset", ["UTC+15", "UTC-13", "UTC+1:15", "+99"])
def test_an_offset_that_no_clocks_have_gets_no_zone(offset: str) -> None:
    """Silence would look like a slip in the name."""
    with pytest.raises(Invalid, match="No clocks show UTC"):
        parse_time_zone(offset)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CEST", ["Europe/Berlin", "Europe/Paris", "Europe/Madrid"]),
        ("cest", ["Europe/Berlin", "Europe/Paris", "Europe/Madrid"]),
        ("BST", ["Europe/London", "Asia/Dhaka"]),
        ("IST", ["Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"]),
        ("PST", ["America/Los_Angeles", "Asia/Manila"]),
        ("PDT", ["America/Los_Angeles"]),
        ("CST", ["America/Chicago", "Asia/Shanghai", "America/Havana"]),
        ("EDT", ["America/New_York"]),
        ("JST", ["Asia/Tokyo"]),
        ("MSK", ["Europe/Moscow"]),
        ("Z", ["UTC"]),
        ("UTC+0", ["UTC"]),
        ("-00:00", ["UTC"]),
        ("Berlin", ["Europe/Berlin"]),
        ("new york", ["America/New_York"]),
        ("Europe/Pari", ["Europe/Paris"]),
        ("America/NewYork", ["America/New_York"]),
        ("Berln", ["Europe/Berlin"]),
        ("Middle-earth", []),
        ("Europe", []),
    ],
)
def test_an_abbreviation_or_a_city_gets_the_zones_it_stands_for(
    written: str, meant: list[str]
) -> None:
    """All of its meanings, because only the person knows which it is."""
    assert suggestions(written) == meant


def test_every_zone_that_an_abbreviation_suggests_exists() -> None:
    """A suggestion that is refused itself costs another round trip."""
    for meanings in MEANINGS.values():
        assert [parse_time_zone(zone) for zone in meanings] == list(meanings)
