"""The data folder of a local stack: its lock, and its private files.

One supervisor at a time uses a folder; the kernel releases the lock even after kill -9. Secrets are
in files that only their owner can read, and a file is replaced completely or not at all.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from service.local.errors import AlreadyRunning, CannotStart

HUB_FOLDER: Final = "hub"
"""The part of a data folder that the local Hub has to itself: its users, buckets and files."""
_LOCK_FILE: Final = "lock"


@contextmanager
def lock_data_dir(folder: Path) -> Generator[None]:
    """Hold the lock of `folder` while the block runs.

    Raises:
        AlreadyRunning: another supervisor holds it.
        CannotStart: this account may not write there.
    """
    create_data_dir(folder)
    with _open_lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Another Holdfast is already running on {folder}. "
                f"Stop it first, or choose another folder with --data."
            ) from None
        os.utime(lock.fileno())
        yield


def create_data_dir(folder: Path) -> None:
    """Create a data folder that is missing, for this account alone.

    Raises:
        CannotStart: there cannot be a folder, or this account may not write to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotStart(_describe_unusable(folder, error)) from None


def is_locked(folder: Path) -> bool:
    """Say whether a supervisor holds the lock of `folder`."""
    try:
        with (folder / _LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_from_this_lock(file: Path) -> bool:
    """Say whether a file of a data folder was written since its lock was last taken."""
    try:
        written, locked = file.stat(), (file.parent / _LOCK_FILE).stat()
    except OSError:
        return False
    return written.st_mtime_ns >= locked.st_mtime_ns


def write_private_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    with _write_draft(path, text) as draft:
        draft.replace(path)


def read_or_create_private_file(path: Path, create: Callable[[], str]) -> str:
    """Return the text of a private file; the first call creates it and later calls return it.

    Several processes may call this at the same moment: all get the text of the one that was first.
    """
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    with _write_draft(path, create()) as draft, suppress(FileExistsError):
        path.hardlink_to(draft)
    return path.read_text(encoding="utf-8")


def _open_lock(folder: Path) -> IO[bytes]:
    try:
        return (folder / _LOCK_FILE).open("ab")
    except OSError as error:
        raise CannotStart(_describe_unusable(folder, error)) from None


def _describe_unusable(folder: Path, error: OSError) -> str:
    match error:
        case PermissionError():
            problem = f"This account may not write to {folder}"
            remedy = "Run Holdfast as the account that owns it, or choose"
        case FileExistsError() | NotADirectoryError():
            problem, remedy = f"{folder} is not a folder: a file is in its place", "Choose"
        case _:
            reason = (error.strerror or str(error)).lower()
            problem, remedy = f"{folder} cannot be the data folder: {reason}", "Choose"
    return f"{problem}. {remedy} another folder with --data."


@contextmanager
def _write_draft(path: Path, text: str) -> Generator[Path]:
    """Write a complete private file next to `path`, with a name that no other process uses."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".draft", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
