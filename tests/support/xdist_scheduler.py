"""A scheduler that runs tests that share what is expensive one after another, in one process.

Tests of a module whose fixtures are made once for the module stay together: apart, each process
would make them. So do those of modules that share a running stack, which name their group with the
mark `xdist_group`. pytest-xdist itself keeps to the groups by changing the names of tests, which
pytest no longer allows; so this scheduler reads the source.
"""

import re
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Final

import pytest
from xdist.scheduler.loadscope import (  # type: ignore[import-untyped]  # it has no types
    LoadScopeScheduling,  # pyright: ignore[reportMissingTypeStubs]  # as above
)

from tests.support.paths import REPOSITORY

_GROUP_MARK: Final = re.compile(r'mark\.xdist_group\("(\w+)"\)')
_MODULE_FIXTURE: Final = re.compile(r'@pytest\.fixture\(scope="module"')


class XdistGroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Distributes tests one by one, but all tests of a group or of such a module to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return find_unit(nodeid)


def find_unit(nodeid: str) -> str:
    """Return what a test shares with those beside which it runs; its own name if nothing."""
    path = nodeid.partition("::")[0]
    return read_xdist_group(path) or (path if has_module_fixture(path) else nodeid)


@cache
def read_xdist_group(path: str) -> str | None:
    """Read the group of a module's tests from its source."""
    group = _GROUP_MARK.search((REPOSITORY / path).read_text())
    return None if group is None else group[1]


@cache
def has_module_fixture(path: str) -> bool:
    """Say whether a module, or a conftest above it, has a fixture for all tests of a module."""
    above = [str(folder / "conftest.py") for folder in PurePosixPath(path).parents]
    sources = (REPOSITORY / each for each in (path, *above))
    return any(_MODULE_FIXTURE.search(each.read_text()) for each in sources if each.exists())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> XdistGroupScheduling:
    """Answer the hook of pytest-xdist; the largest groups go first."""
    return XdistGroupScheduling(config, log)
