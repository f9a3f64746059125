"""Violations of WCAG 2.2 AA on a page, as axe-core finds them."""

from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

VENDOR_FOLDER: Final = Path(__file__).parent / "vendor"
_TAGS: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def find_violations(page: Page) -> list[str]:
    """Return each violation with its elements."""
    # Not as an element of the page: its policy runs no script of others.
    page.evaluate((VENDOR_FOLDER / "axe.min.js").read_text(encoding="utf-8"))
    results: dict[str, Any] = page.evaluate(
        "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", _TAGS
    )
    return [
        f"{violation['id']}: {', '.join(str(node['target']) for node in violation['nodes'][:5])}"
        for violation in results["violations"]
    ]
