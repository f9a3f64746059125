"""Names of time zones: looked up in a list before any file is opened, with what was meant instead.

A fixed offset has a zone of its own, whose name has the sign turned round (`Etc/GMT-2` is UTC+2).
An abbreviation may have several meanings, and often is only the half of a year.
"""

import re
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Final

from schema.common.errors import Invalid
from schema.common.text import quote_value

_SYNTAX_HINT: Final = 'Write its IANA name, such as "Europe/Paris", or "UTC".'
_MAX_SUGGESTIONS: Final = 3
_MAX_COMPARED_CHARS: Final = 60
_MIN_RATIO: Final = 0.8
_OFFSET: Final = re.compile(
    r"(?:etc/)?(?:utc|gmt|z)?([+-])(\d{1,2})(?::?([0-5]\d))?h?", re.IGNORECASE | re.ASCII
)
_MINUS_SIGNS: Final = str.maketrans("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}", "---")
_MAX_ETC_OFFSET: Final = timedelta(hours=14)
_MIN_ETC_OFFSET: Final = timedelta(hours=-12)
_PLACES_BY_OFFSET: Final = {
    timedelta(hours=-9, minutes=-30): "Pacific/Marquesas",
    timedelta(hours=-3, minutes=-30): "America/St_Johns",
    timedelta(hours=-2, minutes=-30): "America/St_Johns",
    timedelta(hours=3, minutes=30): "Asia/Tehran",
    timedelta(hours=4, minutes=30): "Asia/Kabul",
    timedelta(hours=5, minutes=30): "Asia/Kolkata",
    timedelta(hours=5, minutes=45): "Asia/Kathmandu",
    timedelta(hours=6, minutes=30): "Asia/Yangon",
    timedelta(hours=8, minutes=45): "Australia/Eucla",
    timedelta(hours=9, minutes=30): "Australia/Darwin",
    timedelta(hours=10, minutes=30): "Australia/Adelaide",
    timedelta(hours=12, minutes=45): "Pacific/Chatham",
    timedelta(hours=13, minutes=45): "Pacific/Chatham",
}
"""Where clocks have an offset that is not of whole hours, at least for a part of the year."""
MEANINGS: Final[dict[str, dict[str, str]]] = {
    "ACDT": {"Australia/Adelaide": ""},
    "ACST": {"Australia/Adelaide": "with summer time", "Australia/Darwin": "without"},
    "ADT": {"America/Halifax": ""},
    "AEDT": {"Australia/Sydney": ""},
    "AEST": {"Australia/Sydney": "with summer time", "Australia/Brisbane": "without"},
    "AET": {"Australia/Sydney": ""},
    "AKDT": {"America/Anchorage": ""},
    "AKST": {"America/Anchorage": ""},
    "ART": {"America/Argentina/Buenos_Aires": ""},
    "AST": {"America/Halifax": "Atlantic", "Asia/Riyadh": "Arabia"},
    "AWST": {"Australia/Perth": ""},
    "BRT": {"America/Sao_Paulo": ""},
    "BST": {"Europe/London": "British Summer Time", "Asia/Dhaka": "Bangladesh"},
    "CAT": {"Africa/Maputo": ""},
    "CDT": {"America/Chicago": "North America", "America/Havana": "Cuba"},
    "CEDT": {"Europe/Berlin": ""},
    "CEST": {"Europe/Berlin": "", "Europe/Paris": "", "Europe/Madrid": ""},
    "CLST": {"America/Santiago": ""},
    "CLT": {"America/Santiago": ""},
    "COT": {"America/Bogota": ""},
    "CST": {"America/Chicago": "North America", "Asia/Shanghai": "China", "America/Havana": "Cuba"},
    "CT": {"America/Chicago": ""},
    "EAT": {"Africa/Nairobi": ""},
    "ECT": {"America/Guayaquil": ""},
    "EDT": {"America/New_York": ""},
    "EEST": {"Europe/Athens": "", "Europe/Helsinki": "", "Europe/Kyiv": ""},
    "ET": {"America/New_York": ""},
    "GST": {"Asia/Dubai": "Gulf", "Atlantic/South_Georgia": "South Georgia"},
    "HKT": {"Asia/Hong_Kong": ""},
    "ICT": {"Asia/Bangkok": ""},
    "IDT": {"Asia/Jerusalem": ""},
    "IRST": {"Asia/Tehran": ""},
    "IST": {"Asia/Kolkata": "India", "Europe/Dublin": "Ireland", "Asia/Jerusalem": "Israel"},
    "JST": {"Asia/Tokyo": ""},
    "KST": {"Asia/Seoul": ""},
    "MDT": {"America/Denver": ""},
    "MESZ": {"Europe/Berlin": ""},
    "MEZ": {"Europe/Berlin": ""},
    "MMT": {"Asia/Yangon": ""},
    "MSK": {"Europe/Moscow": ""},
    "MT": {"America/Denver": ""},
    "MYT": {"Asia/Kuala_Lumpur": ""},
    "NDT": {"America/St_Johns": ""},
    "NPT": {"Asia/Kathmandu": ""},
    "NST": {"America/St_Johns": ""},
    "NZDT": {"Pacific/Auckland": ""},
    "NZST": {"Pacific/Auckland": ""},
    "NZT": {"Pacific/Auckland": ""},
    "PDT": {"America/Los_Angeles": ""},
    "PET": {"America/Lima": ""},
    "PHT": {"Asia/Manila": ""},
    "PKT": {"Asia/Karachi": ""},
    "PST": {"America/Los_Angeles": "North America", "Asia/Manila": "Philippines"},
    "PT": {"America/Los_Angeles": ""},
    "SAST": {"Africa/Johannesburg": ""},
    "SGT": {"Asia/Singapore": ""},
    "SST": {"Pacific/Pago_Pago": "Samoa", "Asia/Singapore": "Singapore"},
    "TRT": {"Europe/Istanbul": ""},
    "UZT": {"Asia/Tashkent": ""},
    "VET": {"America/Caracas": ""},
    "WAT": {"Africa/Lagos": ""},
    "WEST": {"Europe/Lisbon": ""},
    "WIB": {"Asia/Jakarta": ""},
    "WIT": {"Asia/Jayapura": ""},
    "WITA": {"Asia/Makassar": ""},
    "Z": {"UTC": ""},
}
"""Places by abbreviations that are no names of zones themselves, and which meaning each has."""


def parse_time_zone(name: str) -> str:
    """Return the IANA name of a time zone, whatever its case.

    Raises:
        Invalid: there is none of that name; the text says which may have been meant.
    """
    zones = _zone_names()
    zone = zones.get(name.strip().replace(" ", "_").casefold())
    if zone is None:
        sentences = (
            f"timezone: there is no time zone {quote_value(name)}.",
            _suggest(name.strip()),
            _SYNTAX_HINT,
        )
        raise Invalid(" ".join(filter(None, sentences)))
    return zone


@cache
def _zone_names() -> dict[str, str]:
    names = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return {name.casefold(): name for name in names}


def _suggest(name: str) -> str:
    compact = "".join(name.translate(_MINUS_SIGNS).split())
    if (offset := _OFFSET.fullmatch(compact)) is not None:
        return _suggest_for_offset(_to_timedelta(*offset.groups(default="0")))
    if (meanings := MEANINGS.get(name.upper())) is not None:
        return _ask([f"{zone} ({text})" if text else zone for zone, text in meanings.items()])
    return _ask(_find_places(name))


def _suggest_for_offset(offset: timedelta) -> str:
    shown = _format_offset(offset)
    if place := _PLACES_BY_OFFSET.get(offset):
        return f"Did you mean {place}? Its clocks show {shown}, maybe not all year."
    hours, part = divmod(offset, timedelta(hours=1))
    if part or not _MIN_ETC_OFFSET <= offset <= _MAX_ETC_OFFSET:
        return f"No clocks show {shown}."
    if not hours:
        return "Did you mean UTC?"
    return (
        f"Did you mean Etc/GMT{-hours:+d}? It is {shown} all year: the sign in such a name is "
        f"turned round. A place has summer time too."
    )


def _find_places(name: str) -> list[str]:
    """Return the zones of a city, or those whose names differ by a slip."""
    written = name.replace(" ", "_").casefold()[:_MAX_COMPARED_CHARS]
    zones = _zone_names()
    cities: dict[str, list[str]] = {}
    for folded, zone in zones.items():
        cities.setdefault(folded.rpartition("/")[2], []).append(zone)
    if written in cities:
        return cities[written][:_MAX_SUGGESTIONS]
    known = {**cities, **{folded: [zone] for folded, zone in zones.items()}}
    close = get_close_matches(written, known, n=1, cutoff=_MIN_RATIO)
    return [zone for match in close for zone in known[match]][:_MAX_SUGGESTIONS]


def _to_timedelta(sign: str, hours: str, minutes: str) -> timedelta:
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return -offset if sign == "-" else offset


def _format_offset(offset: timedelta) -> str:
    minutes = abs(offset) // timedelta(minutes=1)
    hours, rest = divmod(minutes, 60)
    sign = "-" if offset < timedelta(0) else "+"
    return f"UTC{sign}{hours}{f':{rest:02d}' if rest else ''}"


def _ask(zones: list[str]) -> str:
    *most, last = zones or [""]
    return f"Did you mean {' or '.join(filter(None, [', '.join(most), last]))}?" if last else ""
