"""What a message repeats is short, on one line, and says where it was cut off (`common/text`)."""

import pytest

from schema.common.text import MAX_QUOTED_CHARS, quote_value, short_repr, shorten, truncate


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("river", "river"), ("12345", "12345"), ("123456", "1234…")],
)
def test_a_text_is_cut_off_only_where_it_is_too_long(text: str, shown: str) -> None:
    """The ellipsis counts, so that what is cut off is never longer than was allowed."""
    assert truncate(text, 5) == shown


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
