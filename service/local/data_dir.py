"""The data folder of a local stack: its lock, and its private files.

One supervisor at a time uses a folder; the kernel releases the lock even after kill -9. Secrets are
in files that only their owner can read, and a file is replaced completely or not at all.
"""

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.local.errors import CannotStart


@contextmanager
def lock_data_dir(folder: Path) -> Generator[None]:
    """Hold the lock of `folder` while the block runs.

    Raises:
        CannotStart: another supervisor holds it, or this account may not write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a")
    except PermissionError:
        raise CannotStart(
            f"This account may not write to {folder}. Run Holdfast as the account that owns it, "
            f"or choose another folder with --data."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"Another Holdfast is already running on {folder}. "
                f"Stop it first, or choose another folder with --data."
            ) from None
        yield


def write_private_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_or_create_private_file(path: Path, create: Callable[[], str]) -> str:
    """Return the text of a private file; the first call creates it and later calls return it."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    text = create()
    write_private_file(path, text)
    return text
