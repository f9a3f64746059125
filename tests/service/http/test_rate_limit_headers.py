"""What a caller is told of what is left to them."""

from datetime import timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from schema.accounts.call_counts import CallCount
from schema.common.errors import RateLimited
from service.http.rate_limit import RateLimitStatus

HOUR: Final = timedelta(hours=1)


def test_the_headers_of_a_refusal_say_when_to_come_again() -> None:
    """Rounded up: whoever comes when they were told to is let in."""
    refusal = RateLimited(
        limit=600, window=timedelta(minutes=1), retry_after=timedelta(seconds=2.1)
    )

    assert RateLimitStatus.from_refusal(refusal).to_headers() == {
        "ratelimit-policy": '"calls";q=600;w=60',
        "ratelimit": '"calls";r=0;t=3',
        "retry-after": "3",
    }


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 60), st.floats(0, 0.999))
def test_who_comes_again_when_told_to_is_let_in_and_not_told_too_late(
    limit: int, made: int, before: int, past: float
) -> None:
    """A wait that is too short costs a second refusal, one too long costs time."""
    made = min(made, limit)
    used = made + before * (1 - past)
    if used + 1 <= limit:
        return
    wait = (
        RateLimitStatus.from_count(
            CallCount(is_allowed=False, calls=made, previous_calls=before, elapsed_fraction=past),
            limit=limit,
            window=HOUR,
        ).resets_in
        / HOUR
    )

    def weight(later: float) -> float:
        at = past + later
        return made + before * (1 - at) if at < 1 else made * (2 - at)

    assert weight(wait) + 1 <= limit + 1e-6
    assert weight(wait * 0.99) + 1 > limit - 1e-6
