"""A data folder: one supervisor at a time, secrets for its owner alone."""

from pathlib import Path

import pytest

from service.local.data_dir import locked, remembered
from service.local.errors import CannotStart


def test_a_folder_in_use_is_refused_by_its_name(tmp_path: Path) -> None:
    """Whoever reads this has two terminals and wonders which is which."""
    with locked(tmp_path), pytest.raises(CannotStart, match=str(tmp_path)), locked(tmp_path):
        pass


def test_a_folder_is_free_again_after_its_use(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_what_is_remembered_is_made_once(tmp_path: Path) -> None:
    """A password that changed would lock us out of our own database."""
    secret = tmp_path / "password"

    assert remembered(secret, lambda: "first") == "first"
    assert remembered(secret, lambda: "second") == "first"
    assert secret.stat().st_mode & 0o077 == 0
