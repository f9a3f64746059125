"""What a message repeats is short, on one line, and says where it was cut off (`common/text`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.common.text import (
    MAX_QUOTED_CHARS,
    format_count,
    quote_value,
    short_repr,
    shorten,
    truncate,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("river", "river"), ("12345", "12345"), ("123456", "1234…")],
)
def test_a_text_is_cut_off_only_where_it_is_too_long(text: str, shown: str) -> None:
    """The ellipsis counts, so that what is cut off is never longer than was allowed."""
    assert truncate(text, 5) == shown


@given(
    text=st.text(max_size=300),
    max_chars=st.integers(1, 200),
    mark=st.sampled_from(["…", " … [cut] … "]),
    keeps_end=st.booleans(),
)
def test_a_cut_text_fits_and_keeps_its_beginning_and_if_asked_its_end(
    text: str, max_chars: int, mark: str, *, keeps_end: bool
) -> None:
    """The mark stands in the place of what is left out, and nothing else is changed."""
    shown = truncate(text, max_chars, keeps_end=keeps_end, mark=mark)

    if len(text) <= max_chars:
        assert shown == text
        return
    room = max(0, max_chars - len(mark))
    end_chars = room // 2 if keeps_end else 0
    assert len(shown) == max(max_chars, len(mark))
    assert shown == text[: room - end_chars] + mark + text[len(text) - end_chars :]


def test_a_long_text_can_keep_its_end() -> None:
    """What went wrong stands at the end of what a program printed."""
    assert truncate("123456789", 5, keeps_end=True) == "12…89"
    assert shorten("one\ntwo  three\nfour", 9, keeps_end=True) == "one …four"


def test_a_text_of_several_lines_becomes_one_line() -> None:
    """Before it is measured: white space alone cuts nothing off."""
    assert shorten("  two\n\n  lines ", 9) == "two lines"
    assert shorten("three\nlines now", 9) == "three li…"


def test_a_quoted_text_keeps_its_closing_quote() -> None:
    """And whatever would break the line of a message is escaped."""
    assert quote_value("x" * 1000) == repr("x" * (MAX_QUOTED_CHARS - 1) + "…")
    assert quote_value("a\nb") == r"'a\nb'"


def test_values_are_written_as_a_caller_writes_them() -> None:
    """A word needs no quotes; what is no text is written as JSON."""
    assert short_repr("flavor") == "flavor"
    assert short_repr("two words") == "'two words'"
    assert short_repr({"a": None}) == '{"a": null}'
    assert len(short_repr(["x" * 1000])) == MAX_QUOTED_CHARS


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 matches"), (1, "1 match"), (2, "2 matches"), (12_000, "12,000 matches")],
)
def test_a_noun_agrees_with_its_number(count: int, shown: str) -> None:
    """ "1 jobs" makes a reader doubt the number."""
    assert format_count(count, "match", "matches") == shown
    assert format_count(count, "job") == shown.replace("matches", "jobs").replace("match", "job")
