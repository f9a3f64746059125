"""Each line of what Holdfast does names a test, and each test is there; so with what peers do."""

import re
from typing import Final

import pytest

from tests.support.paths import DOCS

_LINE: Final = re.compile(r"^\| (?!-|what )(?P<promise>[^|]+)\|(?P<shown>[^|]+)\|$", re.MULTILINE)
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_REASON: Final = re.compile(r"Not here|comes with|Apache-2\.0|is it;")
"""How a line says why something of a peer's is not here, or is no matter of tests."""


def read_table(page: str) -> list[tuple[str, str]]:
    text = (DOCS / page).read_text()
    return [(line["promise"].strip(), line["shown"]) for line in _LINE.finditer(text)]


PROMISES: Final = read_table("features.md")
PEER_FEATURES: Final = read_table("peers.md")


@pytest.mark.parametrize(("promise", "shown"), PROMISES, ids=[promise for promise, _ in PROMISES])
def test_what_is_promised_is_tested(promise: str, shown: str) -> None:
    """A test that was renamed or removed takes its line in the table with it."""
    assert _TEST.search(shown), promise
    assert_tests_exist(shown)


@pytest.mark.parametrize(
    ("theirs", "here"), PEER_FEATURES, ids=[each.split()[0] for each, _ in PEER_FEATURES]
)
def test_what_a_peer_has_is_tested_here_or_left_out_for_a_reason(theirs: str, here: str) -> None:
    """Nobody has to find out by trying."""
    assert _TEST.search(here) or _REASON.search(here), theirs
    assert_tests_exist(here)


def test_the_tables_are_read_and_leave_nothing_of_the_peers_out() -> None:
    assert len(PROMISES) > 25
    numbered = [*(f"HF{number}" for number in range(1, 28)), *(f"GR{n}" for n in range(1, 18))]
    assert [each.split()[0] for each, _ in PEER_FEATURES] == numbered


def assert_tests_exist(shown: str) -> None:
    for path, test in _TEST.findall(shown):
        assert f"def {test}(" in (DOCS.parent / path).read_text(), f"{path}::{test}"
