"""When a launch that created nothing is tried again."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from workers.timing import MAX_BACKOFF, MIN_BACKOFF, backoff


@given(st.integers(min_value=0, max_value=1000))
def test_the_wait_stays_within_its_bounds(tries: int) -> None:
    """However often it was tried: never at once, and never so late that it looks forgotten."""
    assert MIN_BACKOFF / 2 <= backoff(tries) <= MAX_BACKOFF * 1.5


@given(st.integers(min_value=0, max_value=7))
def test_the_wait_doubles_on_average(tries: int) -> None:
    """Each try waits at least a third longer than the one before could have at its shortest."""
    assert backoff(tries) >= timedelta(seconds=0.5 * 2**tries)
