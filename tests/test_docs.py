"""Pages name files that exist, link to pages that exist, and draw the states that there are."""

import re
from pathlib import Path
from typing import Final

import pytest

from schema.jobs.run_tables import RunState
from schema.jobs.tables import JobState
from tests.support.paths import DOCS, REPOSITORY

PAGES: Final = sorted(
    [*DOCS.rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"],
)
NAMED_PATH: Final = re.compile(
    r"`((?:schema|service|workers|tests|alembic|docs|\.ci)/[\w./-]+?)(?:::\w+)?`"
)
LINK: Final = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def page_ids(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """A path that moved leads a reader nowhere, and no tool sees it in prose."""
    named = set(NAMED_PATH.findall(page.read_text(encoding="utf-8")))

    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_page_begins_with_its_title(page: Path) -> None:
    """An empty page would pass every other test."""
    assert page.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    """A reader follows them from the index."""
    links = set(LINK.findall(page.read_text(encoding="utf-8")))

    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []


def test_the_index_lists_every_page() -> None:
    """A page that nobody links to is not read."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in DOCS.glob("*.md") if f"({page.name})" not in index] == [
        "README.md"
    ]


@pytest.mark.parametrize(
    ("diagram", "states"),
    [("job-states.mmd", set(JobState)), ("run-states.mmd", set(RunState))],
)
def test_a_diagram_has_every_state_and_no_other(
    diagram: str, states: set[JobState] | set[RunState]
) -> None:
    """The picture is the first thing that a newcomer believes."""
    text = (DOCS / "diagrams" / diagram).read_text(encoding="utf-8")
    ends = re.findall(r"^\s*(\S+) --> (\w+)", text, re.MULTILINE)
    drawn = {state for pair in ends for state in pair} - {"[*]"}

    assert drawn == set(states)


def test_every_diagram_is_drawn() -> None:
    """A page shows the picture; the text beside it is what is edited."""
    sources = {path.stem for path in (DOCS / "diagrams").glob("*.mmd")}

    assert {path.stem for path in (DOCS / "diagrams").glob("*.svg")} == sources
