"""The results of a run in `docs/interop.md`, each between two markers and written by one test.

`python3 -m tests.interop` writes it anew; otherwise a test that finds something else fails.
"""

import os
from typing import Final

from tests.support.paths import DOCS

PAGE: Final = DOCS / "interop.md"
RECORD_VARIABLE: Final = "HOLDFAST_RECORD_INTEROP"
_BEGIN, _END = "<!-- {} -->", "<!-- /{} -->"


def check_section(section: str, content: str) -> None:
    """Expect that a part of the page says what was found, or write it there if we were told to."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN.format(section))
    recorded, after = rest.split(_END.format(section))
    text = f"\n{content.strip()}\n"
    if os.environ.get(RECORD_VARIABLE):
        PAGE.write_text(
            f"{before}{_BEGIN.format(section)}{text}{_END.format(section)}{after}", encoding="utf-8"
        )
        return
    assert recorded == text, "docs/interop.md is out of date; `python3 -m tests.interop` writes it"


def expect_row(section: str, row: str) -> None:
    """Expect that a part of the page has a row."""
    page = PAGE.read_text(encoding="utf-8")
    recorded = page.split(_BEGIN.format(section))[1].split(_END.format(section))[0]
    assert row in recorded.splitlines(), (
        f"docs/interop.md lacks {row}; `python3 -m tests.interop --seeds` writes it"
    )
