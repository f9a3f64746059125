"""Statements that compare a subject, and the same statements without that comparison."""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from schema.artifacts import files, log_store, uploads
from schema.batches import queries as batch_queries
from schema.billing import budgets, spending
from schema.db.sql import Statement
from schema.jobs import lifecycle, search
from schema.jobs import queries as job_queries
from schema.jobs.monitoring import changes
from schema.schedules import store as schedule_store
from schema.workspaces import store as workspace_store
from schema.workspaces import webhooks

STATEMENT_MODULES: Final = (
    *(budgets, batch_queries, changes, files, job_queries, lifecycle, log_store, search),
    *(schedule_store, spending, uploads, webhooks, workspace_store),
)
"""Whose statements the service runs for a subject."""


SUBJECT_COMPARISON: Final = re.compile(
    r"(?:\w+\.)?subject_id = ([$:]\w+)"
    r"|(?:(?<=FROM subject WHERE )|(?<=FROM subject\n WHERE ))id = ([$:]\w+)"
)
"""In a statement with a number, in a piece of several statements with a name."""


def find_subject_statements() -> dict[str, str]:
    """Find every statement that compares a subject, by the name of its constant."""
    return {
        f"{module.__name__.removeprefix('schema.')}.{name}": text
        for module in STATEMENT_MODULES
        for name, text in read_string_constants(module).items()
        if SUBJECT_COMPARISON.search(text)
    }


def read_string_constants(module: ModuleType) -> Mapping[str, str]:
    return {name: value for name, value in vars(module).items() if isinstance(value, str)}


def without_subject_comparison(name: str) -> str:
    """Take the comparison out; what it compared with is still a parameter, and always true."""
    text, count = SUBJECT_COMPARISON.subn(
        lambda match: f"{match[1] or match[2]}::text IS NOT NULL", find_subject_statements()[name]
    )
    assert count
    return text


def order_arguments(name: str, arguments: list[Any] | dict[str, Any]) -> list[Any]:
    """Put what a statement is given in the order of its numbers."""
    statement = find_subject_statements()[name]
    if isinstance(arguments, list):
        assert not isinstance(statement, Statement)
        return arguments
    assert isinstance(statement, Statement)
    _, *values = statement.bind(**arguments)
    return values
