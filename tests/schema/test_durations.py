"""How lengths of time are read: any form people write, and nothing that means something else."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.durations import parse, say


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (3600, 3600),
        ("1800", 1800),
        ("3600s", 3600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2 hours", 7200),
        ("90 min", 5400),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        ("1d", 86400),
        (timedelta(minutes=2), 120),
    ],
)
def test_every_usual_form_is_read(written: object, seconds: float) -> None:
    """A server that read `1h30m` as one second cost people their training runs."""
    assert parse(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [0, "0s", -1, "-5", "", "soon", "1x", "1h-30m", "h", True, None, [], "nan", "inf", 1e300],
)
def test_what_is_no_positive_length_is_refused(written: object) -> None:
    """Zero and nonsense are mistakes, not the shortest possible time."""
    with pytest.raises(ValueError, match=r"duration|longer than nothing"):
        parse(written)


@given(st.integers(min_value=1, max_value=10**7))
def test_what_is_said_reads_back_as_what_was_meant(seconds: int) -> None:
    """Whatever we print, people paste."""
    assert parse(say(timedelta(seconds=seconds))) == timedelta(seconds=seconds)
