"""A text takes what it may in a reply, and is cut only if it would take more."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.views.text import count_json_bytes, fit_text

_CHARS = st.characters(codec="utf-8")


@example("\x00" * 20, 100)  # six bytes each
@example("😀" * 30, 100)
@example("a" * 98, 100)
@given(st.text(_CHARS, max_size=60), st.integers(min_value=10, max_value=400))
def test_a_text_is_cut_just_when_it_does_not_fit(text: str, max_bytes: int) -> None:
    """Whatever its characters take: some are written as escapes."""
    fitted = fit_text(text, max_bytes)

    assert count_json_bytes(fitted) <= max_bytes
    assert (fitted == text) == (count_json_bytes(text) <= max_bytes)


@pytest.mark.parametrize(
    ("value", "count"), [("ü", 4), ("\x00", 8), ([1, "a"], 8), ({"é": None}, 12), (b"x", 6)]
)
def test_bytes_are_those_of_json(value: object, count: int) -> None:
    """In UTF-8; what JSON does not know counts as its text."""
    assert count_json_bytes(value) == count
