"""Folders of this machine whose files may be sent, and how a file in one of them is opened.

A model chooses the path, and what it has read may have told it which. So a path is a request:

* It is inside a folder that a person named when the bridge started.
* Each name on the way is opened by the descriptor of the folder before it, and no symbolic link is
  followed. What is opened is what was checked, whatever is renamed meanwhile.
* Nothing hidden below such a folder (`.ssh`, `.env`, `.git`), no device, no pipe and no socket.
* Not the file with the caller's token, and nothing in the data folder of the local stack.

A hard link cannot be told from a file: whoever can make one in a shared folder shares the file.
"""

import os
import re
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.common.errors import HoldfastError, Invalid

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:blob|data|file):", re.IGNORECASE)
_SYSTEM_FOLDERS: Final = tuple(map(Path, ("/proc", "/sys", "/dev")))
"""Their files are what the kernel says about this program, its secrets among it."""
_MAX_PATH_CHARS: Final = 4096
# O_PATH, of Linux: a folder on the way may be searched, though not always read.
_FOLDER_FLAGS: Final = (
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Not blocking: a pipe in the place of the file would never open."""


class FileRefused(HoldfastError):
    """A file may not be sent; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that is open, and that stays the same one."""

    descriptor: int
    name: str
    size: int
    """Its bytes when it was opened."""
    modified_ns: int

    def has_changed(self) -> bool:
        """Say whether the file was written since it was opened."""
        state = os.fstat(self.descriptor)
        return (state.st_size, state.st_mtime_ns) != (self.size, self.modified_ns)


class SharedFolders:
    """The folders that a person named when the bridge started."""

    def __init__(self, folders: Sequence[Path], *, excluded: Iterable[Path] = ()) -> None:
        """Check the folders.

        Args:
            folders: as the person wrote them.
            excluded: files and folders that are never sent, wherever they are.

        Raises:
            Invalid: one of them is no folder, or has secrets of this machine.
        """
        self._roots = [(folder.absolute(), _resolve(folder)) for folder in folders]
        self._excluded = tuple(excluded)

    @property
    def paths(self) -> list[Path]:
        """The folders, without symbolic links on the way to them."""
        return [resolved for _, resolved in self._roots]

    @contextmanager
    def open_file(self, text: str) -> Generator[SharedFile]:
        """Open a file that may be sent; it is closed after the block.

        Args:
            text: its path, whole or inside one of the folders.

        Raises:
            FileRefused: it may not be sent, or there is none.
        """
        root, names = self._find_place(text)
        with ExitStack() as descriptors:
            try:
                descriptor = self._open(root, names, descriptors)
            except OSError as error:
                raise FileRefused(self._describe(error, text)) from None
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise FileRefused(_describe_kind(text, state.st_mode))
            yield SharedFile(descriptor, names[-1], state.st_size, state.st_mtime_ns)

    def _find_place(self, text: str) -> tuple[Path, tuple[str, ...]]:
        """Return the folder that a path is in, and the names that lead on from there."""
        if not text.strip() or "\0" in text or len(text) > _MAX_PATH_CHARS:
            raise FileRefused("This is no path of a file. Write one such as data/train.csv.")
        if _URL.match(text):
            raise FileRefused(
                "upload_file sends files of this computer, and this is a URL. The service fetches "
                "URLs itself: put it where a launch takes a file."
            )
        path = Path(text).expanduser() if text.startswith("~/") else Path(text)
        # As it was written: Path has removed only "." and double slashes.
        if ".." in path.parts:
            raise FileRefused("A path with .. is refused. Write where the file is, without it.")
        if path.is_absolute():
            places = [
                (resolved, path.relative_to(root).parts)
                for written, resolved in self._roots
                for root in (written, resolved)
                if path.is_relative_to(root)
            ]
        else:
            places = [(resolved, path.parts) for resolved in self.paths]
        # The folder nearest to the file: it may be hidden in another, and named for that reason.
        places = sorted((place for place in places if place[1]), key=lambda place: len(place[1]))
        if not places:
            raise FileRefused(
                f"{text} is in no folder that may be sent from. {self._describe_folders()}"
            )
        for name in places[0][1]:
            if name.startswith("."):
                raise FileRefused(
                    f"{name} is hidden, and nothing hidden is sent: keys and tokens are in such "
                    f"places. Copy the file elsewhere, or have the bridge started with "
                    f"--allow-folder and that folder."
                )
        existing = (place for place in places if _is_there(place[0].joinpath(*place[1])))
        return next(existing, places[0])

    def _open(self, root: Path, names: Sequence[str], descriptors: ExitStack) -> int:
        """Open a file name by name, from the top of the machine."""
        excluded = set(self._read_excluded())

        def keep(descriptor: int) -> int:
            descriptors.callback(os.close, descriptor)
            state = os.fstat(descriptor)
            if (state.st_dev, state.st_ino) in excluded:
                raise FileRefused("This is never sent: the token or the data of Holdfast.")
            return descriptor

        folder = keep(os.open("/", _FOLDER_FLAGS))
        for name in (*root.parts[1:], *names[:-1]):
            folder = keep(os.open(name, _FOLDER_FLAGS, dir_fd=folder))
        # A device may act when it is opened, so its kind is looked at first, and again afterwards.
        state = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(state.st_mode):
            raise FileRefused(_describe_kind(names[-1], state.st_mode))
        return keep(os.open(names[-1], _FILE_FLAGS, dir_fd=folder))

    def _read_excluded(self) -> Generator[tuple[int, int]]:
        for path in self._excluded:
            try:
                state = path.stat()
            except OSError:
                continue
            yield state.st_dev, state.st_ino

    def _describe(self, error: OSError, text: str) -> str:
        match error:
            case FileNotFoundError():
                return f"There is no file {text}. {self._describe_folders()}"
            case PermissionError():
                return f"This account may not read {text}."
            case NotADirectoryError():
                return (
                    f"A part of {text} is a symbolic link or no folder, and neither is followed. "
                    f"Write the path without links."
                )
            case _:
                reason = (error.strerror or "unknown").lower()
                return f"{text} cannot be opened: {reason}. Write the path without links."

    def _describe_folders(self) -> str:
        return f"Files in these folders can be sent: {', '.join(map(str, self.paths))}."


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _resolve(folder: Path) -> Path:
    try:
        resolved = folder.resolve(strict=True)
    except (OSError, RuntimeError):
        raise Invalid(f"There is no folder {folder} to allow.") from None
    if not resolved.is_dir():
        raise Invalid(f"{folder} is no folder. Name the folder that the file is in.")
    if resolved == Path("/") or any(resolved.is_relative_to(each) for each in _SYSTEM_FOLDERS):
        raise Invalid(f"{folder} has secrets of this machine. Name a folder with your own files.")
    return resolved


def _describe_kind(text: str, mode: int) -> str:
    if stat.S_ISDIR(mode):
        return f"{text} is a folder. Send its files one by one, or an archive of it."
    if stat.S_ISLNK(mode):
        return f"{text} is a symbolic link, which is not followed. Write the path that it leads to."
    return f"{text} is no ordinary file but a device, a pipe or a socket, and none is sent."
