"""Which ids of requests are taken over, and which are not."""

import pytest

from service.runtime.request_ids import identify_request

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("request_id", ["a", "7f3c", "req_1.2-3", "A" * 64])
def test_an_id_of_the_usual_form_is_taken_over(request_id: str) -> None:
    """A person finds a call in our log by the id that their own system gave it."""
    assert identify_request({"x-request-id": request_id}).request_id == request_id


@pytest.mark.parametrize(
    "request_id",
    [
        *("", "a" * 65, "a b", "a\nb", 'a"', "../x", "-x", "é", "a\x00"),
        *("hf_abcdefghijkl", "x-hf_abcdefghijkl"),
    ],
)
def test_any_other_id_is_replaced(request_id: str) -> None:
    """It goes into logs, rows and labels: no text of a stranger, and no token, may come along."""
    identity = identify_request({"x-request-id": request_id})

    assert len(identity.request_id) == 32
    assert request_id not in identity.to_headers().values()


def test_two_requests_without_an_id_have_two() -> None:
    """An id that repeats finds nothing."""
    assert identify_request({}) != identify_request({})


def test_a_trace_is_the_id_of_a_request_that_has_no_other() -> None:
    """Whoever traces needs no second id."""
    traced = identify_request({"traceparent": TRACEPARENT})
    both = identify_request({"traceparent": TRACEPARENT, "x-request-id": "mine"})

    assert traced.to_headers() == {"x-request-id": TRACE_ID, "traceparent": TRACEPARENT}
    assert both.to_headers() == {"x-request-id": "mine", "traceparent": TRACEPARENT}


@pytest.mark.parametrize(
    "traceparent",
    [
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01",
        f"{TRACEPARENT}-more",
        "x",
    ],
)
def test_a_wrong_trace_is_left_out(traceparent: str) -> None:
    """W3C Trace Context: what does not parse is treated as if it were not there."""
    assert identify_request({"traceparent": traceparent}).traceparent is None
