"""The JavaScript clients, installed once for each lock."""

from pathlib import Path

import pytest

from tests.interop import node_packages


@pytest.fixture(scope="session")
def javascript_folder() -> Path:
    """Return where they are; the packages then need no network."""
    return node_packages.install_packages()
