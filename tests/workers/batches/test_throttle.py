"""A batch goes as fast as its provider lets it."""

from datetime import timedelta

from workers.batches.throttle import Throttle

MINUTE = timedelta(minutes=1)


def test_as_many_are_sent_as_was_asked_for() -> None:
    throttle = Throttle(8)

    assert (
        throttle.free_slots(0, now=0),
        throttle.free_slots(5, now=0),
        throttle.free_slots(8, now=0),
    ) == (
        8,
        3,
        0,
    )


def test_after_a_refusal_none_is_sent_for_as_long_as_was_asked_and_then_half_as_many() -> None:
    """The wait is the provider's to name."""
    throttle = Throttle(8)

    throttle.record_refusal(MINUTE, now=100)

    assert (throttle.free_slots(0, now=159.9), throttle.free_slots(0, now=160)) == (0, 4)
    assert (throttle.pause_seconds(now=150), throttle.pause_seconds(now=161)) == (10, 0)


def test_what_was_under_way_when_a_pause_began_tells_of_the_same_one() -> None:
    """Eight refusals at once would else leave one call at a time; the longest wait counts."""
    throttle = Throttle(8)
    for pause in (MINUTE, 2 * MINUTE, MINUTE):
        throttle.record_refusal(pause, now=100)

    assert (throttle.free_slots(0, now=219), throttle.free_slots(0, now=220)) == (0, 4)


def test_answers_bring_it_back_to_what_was_asked_for_and_no_further() -> None:
    throttle = Throttle(4)
    throttle.record_refusal(MINUTE, now=0)
    for _ in range(50):
        throttle.record_response()

    assert throttle.free_slots(0, now=60) == 4


def test_refusals_in_a_row_wait_longer_each_and_never_stop_it() -> None:
    """Where nobody says for how long; one call always goes, to find out."""
    throttle, now, waits = Throttle(32), 0.0, list[float]()
    for _ in range(8):
        throttle.record_refusal(None, now=now)
        waits.append(throttle.pause_seconds(now=now))
        now += waits[-1]

    assert waits[0] <= 1.5
    assert waits[7] >= 60
    assert throttle.free_slots(0, now=now) == 1


def test_no_pause_is_longer_than_an_hour() -> None:
    """Then it is asked again, whatever a provider may have meant."""
    throttle = Throttle(1)
    throttle.record_refusal(timedelta(days=400), now=0)

    assert throttle.pause_seconds(now=0) == 3600
