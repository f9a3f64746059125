"""Garbage collection around the imports of a process."""

import gc
from collections.abc import Generator

import pytest

from schema.common.process.imports import no_collections


@pytest.fixture(autouse=True)
def collected_again() -> Generator[None]:
    """The process of the tests goes on, and so has to collect what was there."""
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_while_modules_are_imported() -> None:
    """Each collection looks through all that was imported so far, and finds nothing."""
    gc.unfreeze()

    with no_collections():
        assert not gc.isenabled()

    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_failed_import_leaves_the_collector_on() -> None:
    """The process may go on without the module."""
    with pytest.raises(ImportError), no_collections():
        raise ImportError("no such module")

    assert gc.isenabled()
