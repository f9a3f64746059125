"""A data folder: one supervisor at a time, secrets for its owner alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Final

import pytest

from service.local.data_dir import lock_data_dir, read_or_create_private_file
from service.local.errors import CannotStart

CREATORS: Final = 16


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


def test_processes_that_create_the_same_file_at_once_all_get_the_first_text(
    tmp_path: Path,
) -> None:
    """Two emulators that start on one folder must agree on their users and on their links."""
    secret, ready = tmp_path / "password", Barrier(CREATORS, timeout=10)

    def create(number: int) -> str:
        def wait_for_all() -> str:
            ready.wait()
            return str(number)

        return read_or_create_private_file(secret, wait_for_all)

    with ThreadPoolExecutor(CREATORS) as pool:
        texts = set(pool.map(create, range(CREATORS)))

    assert texts == {secret.read_text("utf-8")}
    assert list(tmp_path.iterdir()) == [secret]
