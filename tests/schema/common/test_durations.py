"""How lengths of time are read: any form people write, and nothing that means something else."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.common.durations import bounded_duration_parser, format_duration, parse_duration


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
        ("1 hour and 30 minutes", 5400),
        ("1h, 5m", 3900),
        ("PT1H30M", 5400),
        ("P1DT2H", 93600),
        ("pt0.5s", 0.5),
        (timedelta(minutes=2), 120),
    ],
)
def test_every_usual_form_is_read(written: object, seconds: float) -> None:
    """A server that read `1h30m` as one second cost people their training runs."""
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [
        0,
        "0s",
        -1,
        "-5",
        "",
        "soon",
        "1x",
        "1h-30m",
        "h",
        "P",
        "PT",
        "P1M",
        "1hand",
        True,
        None,
        [],
        "nan",
        "inf",
        1e300,
    ],
)
def test_what_is_no_positive_length_is_refused(written: object) -> None:
    """Zero and nonsense are mistakes, not the shortest possible time."""
    with pytest.raises(ValueError, match=r"duration|is not positive"):
        parse_duration(written)


@pytest.mark.parametrize("written", ["9" * 5000, "1x" * 5000, ["x"] * 5000])
def test_a_refusal_repeats_no_more_than_it_takes_to_recognise_it(written: object) -> None:
    """An answer as long as the mistake would fill a model's context with it."""
    with pytest.raises(ValueError, match="is not a duration") as refused:
        parse_duration(written)

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("written", ["1s", 30, timedelta(minutes=1)])
def test_what_is_within_the_limits_is_read(written: object) -> None:
    """Both ends are within."""
    assert bounded_duration_parser(timedelta(seconds=1), timedelta(minutes=1))(
        written
    ) == parse_duration(written)


@pytest.mark.parametrize("written", [0, "0s", "-5", "soon", "0.5s", "61s"])
def test_every_refusal_names_the_limits(written: object) -> None:
    """Who is told only that it is wrong has to guess a second time."""
    with pytest.raises(ValueError, match="from 1s to 1m is allowed"):
        bounded_duration_parser(timedelta(seconds=1), timedelta(minutes=1))(written)


@given(st.integers(min_value=1, max_value=10**7))
def test_what_is_said_reads_back_as_what_was_meant(seconds: int) -> None:
    """Whatever we print, people paste."""
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)
