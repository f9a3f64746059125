"""Which name was meant, as far as one can tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.common.name_matching import closest_names, did_you_mean

FLAVORS = (
    *("cpu-basic", "cpu-upgrade", "t4-small", "t4-medium", "a10g-small", "a10g-large"),
    *("a10g-largex2", "a100-large", "h200", "h200x2", "l4x1", "l40sx1"),
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a10g", ["a10g-small", "a10g-large", "a10g-largex2"]),
        ("A10G_Large", ["a10g-large"]),
        ("a10g large", ["a10g-large"]),
        ("t4", ["t4-small", "t4-medium"]),
        ("cpu", ["cpu-basic", "cpu-upgrade"]),
        ("h100", ["h200", "h200x2"]),
        ("cpu-baisc", ["cpu-basic"]),
        ("tpu-v5", []),
        ("", []),
    ],
)
def test_what_is_near_comes_first(written: str, meant: list[str]) -> None:
    """A part of a name stands for its family, a slip for the one name it is a slip of."""
    assert closest_names(written, FLAVORS)[: len(meant) or None] == meant


def test_what_was_meant_is_asked_for_in_words() -> None:
    """Silence is better than a guess out of nowhere."""
    assert did_you_mean("t4", FLAVORS) == "Did you mean t4-small or t4-medium?"
    assert did_you_mean("zzz", FLAVORS) == ""


@given(st.text(), st.lists(st.text(min_size=1), max_size=9))
def test_only_names_that_there_are_come_back(written: str, known: list[str]) -> None:
    """A suggestion that is wrong itself costs another round trip."""
    assert set(closest_names(written, known)) <= set(known)
    assert len(closest_names(written, known)) <= 3
