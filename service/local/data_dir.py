"""What does a data folder keep, and who may use it?

One supervisor at a time, held by a lock the kernel drops even on kill -9; secrets in files only
their owner can read, replaced whole or not at all.
"""

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.local.errors import CannotStart


@contextmanager
def lock_data_dir(folder: Path) -> Generator[None]:
    """Keep every other supervisor out of `folder` while the block runs."""
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
    """Write a file that only its owner can read, never half of it."""
    draft = path.with_name(f"{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_or_create_private_file(path: Path, create: Callable[[], str]) -> str:
    """Return the text of a private file, made on the first call and the same ever after."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    text = create()
    write_private_file(path, text)
    return text
