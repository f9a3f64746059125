"""Causes of failures, which are named once a minute, and never with a password."""

import pytest
from structlog.testing import capture_logs

from schema.common.observability.causes import CauseLog, describe_cause


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def test_a_cause_is_written_once_a_minute_with_the_number_of_the_others() -> None:
    """A database that is away fails a thousand calls a second; one line says why."""
    clock = Clock()
    causes = CauseLog("database", clock=clock)

    with capture_logs() as lines:
        for _ in range(1000):
            causes.report(ConnectionRefusedError("no"))
        causes.report(TimeoutError())  # another kind is not hidden by the first
        clock.seconds = 61
        causes.report(ConnectionRefusedError("no"))

    assert [(line["kind"], line["left_out"]) for line in lines] == [
        ("ConnectionRefusedError", 0),
        ("TimeoutError", 0),
        ("ConnectionRefusedError", 999),
    ]


def test_the_root_cause_is_named_and_not_what_was_made_of_it() -> None:
    """`Unavailable` is what the caller reads; the operator knows that already."""
    error = RuntimeError("what was made of it")
    error.__cause__ = PermissionError("the real one")

    with capture_logs() as lines:
        CauseLog("database").report(error)

    assert [line["cause"] for line in lines] == ["PermissionError: the real one"]


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://ada:canary@host/db",
        "redis://:canary@host:6379 refuses",
        "invalid dsn: password=canary host=x",
        "token: canary is wrong",
    ],
)
def test_a_cause_has_no_password(text: str) -> None:
    """Drivers repeat what they were given."""
    assert "canary" not in describe_cause(ValueError(text))


def test_a_cause_of_any_length_is_short() -> None:
    """An upstream may answer with a page."""
    assert len(describe_cause(ValueError("x" * 10_000))) < 400
