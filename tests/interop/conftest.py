"""The JavaScript clients, installed once for each lock."""

from pathlib import Path

import pytest

from tests.interop import node


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """Return where they are; the packages then need no network."""
    return node.install_packages()
