"""What can go wrong on purpose can be looked up."""

from typing import get_args

from schema.common.errors import CredentialProblem
from tests.support.paths import DOCS

CATALOGUE = DOCS / "auth.md"


def test_every_problem_of_a_token_has_a_remedy() -> None:
    """A client shows its code, and somebody wants to know what to do."""
    catalogue = CATALOGUE.read_text(encoding="utf-8")

    assert [name for name in get_args(CredentialProblem) if f"| `{name}` |" not in catalogue] == []
