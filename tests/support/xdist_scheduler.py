"""A scheduler that runs tests that share a running stack one after another, in one process.

A module names its group with the mark `xdist_group`. pytest-xdist itself keeps to the groups by
changing the names of tests, which pytest no longer allows; so this scheduler reads the marks.
"""

import re
from functools import cache
from typing import Any, Final

import pytest
from xdist.scheduler.loadscope import (  # type: ignore[import-untyped]  # it has no types
    LoadScopeScheduling,  # pyright: ignore[reportMissingTypeStubs]  # as above
)

from tests.support.paths import REPOSITORY

_GROUP_MARK: Final = re.compile(r'mark\.xdist_group\("(\w+)"\)')


class XdistGroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Distributes tests one by one, but all tests of a group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return read_xdist_group(nodeid.partition("::")[0]) or nodeid


@cache
def read_xdist_group(path: str) -> str | None:
    """Read the group of a module's tests from its source."""
    group = _GROUP_MARK.search((REPOSITORY / path).read_text())
    return None if group is None else group[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> XdistGroupScheduling:
    """Answer the hook of pytest-xdist; the largest groups go first."""
    return XdistGroupScheduling(config, log)
