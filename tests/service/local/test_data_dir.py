"""A data folder: one supervisor at a time, secrets for its owner alone."""

from pathlib import Path

import pytest

from service.local.data_dir import lock_data_dir, read_or_create_private_file
from service.local.errors import CannotStart


def test_a_folder_in_use_is_refused_by_its_name(tmp_path: Path) -> None:
    """Whoever reads this has two terminals and wonders which is which."""
    with (
        lock_data_dir(tmp_path),
        pytest.raises(CannotStart, match=str(tmp_path)),
        lock_data_dir(tmp_path),
    ):
        pass


def test_a_folder_is_free_again_after_its_use(tmp_path: Path) -> None:
    with lock_data_dir(tmp_path):
        pass
    with lock_data_dir(tmp_path):
        pass


def test_what_is_remembered_is_made_once(tmp_path: Path) -> None:
    """A password that changed would lock us out of our own database."""
    secret = tmp_path / "password"

    assert read_or_create_private_file(secret, lambda: "first") == "first"
    assert read_or_create_private_file(secret, lambda: "second") == "first"
    assert secret.stat().st_mode & 0o077 == 0
