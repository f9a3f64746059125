"""Statements that compare a subject, and the same statements without that comparison."""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from schema.artifacts import files, log_store
from schema.batches import queries as batch_queries
from schema.billing import budgets
from schema.jobs import changes, lifecycle
from schema.jobs import queries as job_queries
from schema.schedules import store as schedule_store
from schema.workspaces import store as workspace_store

STATEMENT_MODULES: Final = (
    *(budgets, batch_queries, changes, files, job_queries, lifecycle, log_store),
    *(schedule_store, workspace_store),
)
"""Whose statements the service runs for a subject."""


SUBJECT_COMPARISON: Final = re.compile(
    r"(?:\w+\.)?subject_id = (\$\d+)|(?<=FROM subject WHERE )id = (\$\d+)"
)


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
    text, times = SUBJECT_COMPARISON.subn(
        lambda it: f"{it[1] or it[2]}::text IS NOT NULL", find_subject_statements()[name]
    )
    assert times
    return text
