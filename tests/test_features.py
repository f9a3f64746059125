"""The table of what Holdfast does names a test for each line, and each test is there."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
_LINE: Final = re.compile(r"^\| (?!-|what )(?P<promise>[^|]+)\|(?P<shown>[^|]+)\|$", re.MULTILINE)
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

LINES: Final = [
    (line["promise"].strip(), line["shown"])
    for line in _LINE.finditer((ROOT / "docs" / "features.md").read_text())
]


@pytest.mark.parametrize(("promise", "shown"), LINES, ids=[promise for promise, _ in LINES])
def test_what_is_promised_is_tested(promise: str, shown: str) -> None:
    """A test that was renamed or removed takes its line in the table with it."""
    named = _TEST.findall(shown)

    assert named, promise
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_table_is_read() -> None:
    assert len(LINES) > 25
