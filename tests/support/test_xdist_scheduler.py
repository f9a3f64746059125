"""Tests that share what is expensive run in one process; all others are spread."""

import pytest

from tests.support.xdist_scheduler import find_unit


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("tests/e2e/jobs/test_outputs.py", "stack"),
        ("tests/agent/test_everyday_tasks.py", "stack"),
        ("tests/schema/jobs/test_query_plans.py", "tests/schema/jobs/test_query_plans.py"),
        ("tests/workers/loops/test_poll_runs.py", "tests/workers/loops/test_poll_runs.py"),
        ("tests/schema/common/test_ids.py", "tests/schema/common/test_ids.py::test_one[a::b]"),
    ],
    ids=["group", "the same group", "module fixture", "fixture of a conftest", "neither"],
)
def test_what_is_made_once_for_a_module_is_made_in_one_process(path: str, unit: str) -> None:
    """It was made in each process: a database of 40,000 jobs, and a local Hub of each module."""
    assert find_unit(f"{path}::test_one[a::b]") == unit
