"""A scheduler that runs tests that share a running stack one after another, in one process.

A module says so by `xdist_group`. That pytest-xdist keeps to it by changing the names of tests,
which pytest no longer lets it do; so its scheduler is told here.
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
    """Deals out tests one by one, but those of a group all to the same process."""

    def _split_scope(self, nodeid: str) -> str:
        return read_xdist_group(nodeid.partition("::")[0]) or nodeid


@cache
def read_xdist_group(path: str) -> str | None:
    """Read from a module to which group its tests belong."""
    group = _GROUP_MARK.search((REPOSITORY / path).read_text())
    return None if group is None else group[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> XdistGroupScheduling:
    """Answer the hook of pytest-xdist; the largest groups go first."""
    return XdistGroupScheduling(config, log)
