"""Attacks on the folders that may be sent from: the path is whatever a model was talked into."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest

from schema.common.errors import Invalid
from service.cli.stdio.shared_folders import FileRefused, SharedFolders

SECRET: Final = b"the secret of somebody"
CONTENT: Final = b"a,b\n1,2\n"


def read(folders: SharedFolders, path: str) -> bytes:
    """Return what would be sent for a path."""
    with folders.open_file(path) as file:
        return os.read(file.descriptor, 100)


class OpenWatch:
    """Runs an action just before a name is opened, once; Python announces each open."""

    def __init__(self) -> None:
        self._name = ""
        self._action: Callable[[], None] | None = None
        sys.addaudithook(self._hear)  # for the rest of the process, so it does nothing by itself

    def before(self, name: str, action: Callable[[], None]) -> None:
        self._name, self._action = name, action

    def forget(self) -> None:
        self._action = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self._action is not None and arguments[0] == self._name:
            action, self._action = self._action, None
            action()


WATCH: Final = OpenWatch()


@pytest.fixture
def watch() -> Generator[OpenWatch]:
    """What swaps a file between its check and its opening."""
    yield WATCH
    WATCH.forget()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A machine: a shared folder with a file, and a secret beside that folder."""
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "shared" / "data" / "train.csv").write_bytes(CONTENT)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "train.csv").write_bytes(SECRET)
    return tmp_path


@pytest.fixture
def folders(home: Path) -> SharedFolders:
    return SharedFolders([home / "shared"])


@pytest.mark.parametrize("form", ["{}/shared/data/train.csv", "data/train.csv", "./data/train.csv"])
def test_a_file_in_a_shared_folder_is_opened(home: Path, folders: SharedFolders, form: str) -> None:
    """By its whole path, and by its place in the folder."""
    with folders.open_file(form.format(home)) as file:
        assert (file.name, file.size) == ("train.csv", len(CONTENT))
        assert os.read(file.descriptor, 100) == CONTENT


def test_a_folder_is_named_by_the_link_that_a_person_knows(home: Path) -> None:
    """On some systems each home is behind a link; the person named it, and no model."""
    (home / "link").symlink_to(home / "shared")
    folders = SharedFolders([home / "link"])

    assert read(folders, f"{home}/link/data/train.csv") == CONTENT
    assert read(folders, f"{home}/shared/data/train.csv") == CONTENT


@pytest.mark.parametrize(
    "path",
    [
        "{home}/private/train.csv",
        "{home}/shared/../private/train.csv",
        "../private/train.csv",
        "data/../../private/train.csv",
        "{home}/shared-too/train.csv",
        "/etc/passwd",
        "~/.bashrc",
        "~root/secret",
        "{home}/shared",
        "data",
        ".",
        "/",
        "",
        " ",
        "data/train.csv\0.png",
        "data/" * 2000 + "train.csv",
        "data/train.csv/",
        "data/none.csv",
        "n" * 300,
        "file://{home}/shared/data/train.csv",
        "https://127.0.0.1/latest/meta-data",
        "FILE:/etc/passwd",
        "data:text/plain,x",
        "hf://datasets/ada/set/train.csv",
        "/proc/self/environ",
        "/dev/stdin",
    ],
)
def test_whatever_is_elsewhere_is_refused_with_a_sentence(
    home: Path, folders: SharedFolders, path: str
) -> None:
    """The sentence says what to do, and shows nothing of what is there."""
    (home / "shared-too").mkdir()
    (home / "shared-too" / "train.csv").write_bytes(SECRET)
    if path == "data/train.csv/":  # as pathlib reads it, this is the file
        assert read(folders, path) == CONTENT
        return

    with pytest.raises(FileRefused, match=r"[.]$") as refusal:
        read(folders, path.format(home=home))

    assert SECRET.decode() not in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/../data/train.csv", r"path with \.\. is refused"),
        ("https://127.0.0.1/train.csv", "this is a URL"),
        ("FILE:data/train.csv", "this is a URL"),
    ],
)
def test_a_path_that_leads_around_is_refused_for_what_it_is(
    home: Path, folders: SharedFolders, path: str, words: str
) -> None:
    """Also where it would lead to a file that may be sent."""
    (home / "shared" / "FILE:data").mkdir()
    (home / "shared" / "FILE:data" / "train.csv").write_bytes(CONTENT)

    with pytest.raises(FileRefused, match=words):
        read(folders, path)


def test_no_link_is_followed(home: Path, folders: SharedFolders) -> None:
    """Not as the file, not as a folder on the way, and not within the folder either."""
    shared = home / "shared"
    (shared / "file.csv").symlink_to(home / "private" / "train.csv")
    (shared / "folder").symlink_to(home / "private")
    (shared / "inside.csv").symlink_to(shared / "data" / "train.csv")

    for path in ("file.csv", "folder/train.csv", "inside.csv"):
        with pytest.raises(FileRefused, match="link"):
            read(folders, path)


def test_a_file_that_becomes_a_link_between_check_and_opening_is_refused(
    home: Path, folders: SharedFolders, watch: OpenWatch
) -> None:
    """Whoever can write to the folder can do this at any moment."""
    file = home / "shared" / "data" / "train.csv"

    def swap() -> None:
        file.unlink()
        file.symlink_to(home / "private" / "train.csv")

    watch.before("train.csv", swap)

    with pytest.raises(FileRefused):
        read(folders, "data/train.csv")


def test_a_folder_that_becomes_a_link_on_the_way_is_refused(
    home: Path, folders: SharedFolders, watch: OpenWatch
) -> None:
    data = home / "shared" / "data"

    def swap() -> None:
        data.rename(home / "moved")
        data.symlink_to(home / "private")

    watch.before("data", swap)

    with pytest.raises(FileRefused, match="link"):
        read(folders, "data/train.csv")


def test_the_shared_folder_itself_may_become_a_link(
    home: Path, folders: SharedFolders, watch: OpenWatch
) -> None:
    """What a person named is a place, and not where a link put there later leads."""
    (home / "private" / "data").mkdir()
    (home / "private" / "data" / "train.csv").write_bytes(SECRET)

    def swap() -> None:
        (home / "shared").rename(home / "moved")
        (home / "shared").symlink_to(home / "private")

    watch.before("shared", swap)

    with pytest.raises(FileRefused, match="link"):
        read(folders, "data/train.csv")


def test_a_folder_is_left_by_nothing_that_is_renamed_afterwards(
    home: Path, folders: SharedFolders, watch: OpenWatch
) -> None:
    """The file is looked for in the folder that was opened, wherever its name leads now."""
    data = home / "shared" / "data"

    def swap() -> None:
        data.rename(home / "moved")
        data.symlink_to(home / "private")

    watch.before("train.csv", swap)

    assert read(folders, "data/train.csv") == CONTENT


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_neither_opened_nor_waited_for(
    home: Path, folders: SharedFolders, watch: OpenWatch, kind: str
) -> None:
    """A pipe without a writer would never open; a device may act when it is opened."""
    path = home / "shared" / "thing"
    opened: list[str] = []
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # The path of a socket has few characters.
        with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
            listener.bind("thing")
    else:
        try:
            os.mknod(path, 0o20600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    watch.before("thing", lambda: opened.append("thing"))

    with pytest.raises(FileRefused, match="no ordinary file"):
        read(folders, "thing")

    assert opened == []


@pytest.mark.timeout(30)
def test_a_file_that_becomes_a_pipe_is_not_waited_for(
    home: Path, folders: SharedFolders, watch: OpenWatch
) -> None:
    file = home / "shared" / "data" / "train.csv"

    def swap() -> None:
        file.unlink()
        os.mkfifo(file)

    watch.before("train.csv", swap)

    with pytest.raises(FileRefused, match="no ordinary file"):
        read(folders, "data/train.csv")


@pytest.mark.parametrize("path", [".ssh/id_ed25519", ".env", "data/.git/config", "data/.netrc"])
def test_nothing_hidden_is_sent(home: Path, folders: SharedFolders, path: str) -> None:
    """Somebody who shares their home means their documents."""
    file = home / "shared" / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(SECRET)

    for form in (path, str(file)):
        with pytest.raises(FileRefused, match="hidden"):
            read(folders, form)


def test_a_hidden_folder_that_a_person_named_is_shared(home: Path) -> None:
    """They have read its name."""
    hidden = home / "shared" / ".cache"
    hidden.mkdir()
    (hidden / "model.bin").write_bytes(CONTENT)
    folders = SharedFolders([home / "shared", hidden])

    assert read(folders, str(hidden / "model.bin")) == CONTENT
    assert read(folders, "model.bin") == CONTENT


def test_the_token_and_the_data_of_holdfast_are_never_sent(home: Path) -> None:
    """Also by another name, and also if somebody keeps them in a folder that they share."""
    token, data = home / "shared" / "token.txt", home / "shared" / "stack"
    token.write_bytes(SECRET)
    (data / "hub").mkdir(parents=True)
    (data / "hub" / "vault.keys").write_bytes(SECRET)
    os.link(token, home / "shared" / "plain.txt")
    folders = SharedFolders([home / "shared"], excluded=[token, data, home / "none"])

    for path in ("token.txt", "plain.txt", "stack/hub/vault.keys"):
        with pytest.raises(FileRefused, match="never sent"):
            read(folders, path)
    assert read(folders, "data/train.csv") == CONTENT


@pytest.mark.parametrize("folder", ["/", "/proc", "/proc/self", "/sys", "/dev", "link"])
def test_a_folder_with_the_secrets_of_the_machine_cannot_be_shared(
    tmp_path: Path, folder: str
) -> None:
    """In /proc the variables of the bridge are files, and its token is one of them."""
    (tmp_path / "link").symlink_to("/proc/self")

    with pytest.raises(Invalid, match="secrets of this machine"):
        SharedFolders([tmp_path / folder])


def test_a_folder_that_is_none_is_refused_at_the_start(home: Path) -> None:
    for path in ("none", "private/train.csv"):
        with pytest.raises(Invalid, match="no folder"):
            SharedFolders([home / path])


def test_a_file_that_is_written_meanwhile_is_noticed(home: Path, folders: SharedFolders) -> None:
    file = home / "shared" / "data" / "train.csv"
    with folders.open_file("data/train.csv") as opened:
        assert not opened.has_changed()
        file.write_bytes(CONTENT + b"3,4\n")
        assert opened.has_changed()


def test_no_descriptor_is_left_open(home: Path, folders: SharedFolders) -> None:
    """A bridge lives for days, and refuses often."""
    before = len(list(Path("/dev/fd").iterdir()))
    for path in ("data/train.csv", "data/none.csv", "none/train.csv", "data"):
        try:
            read(folders, path)
        except FileRefused:
            continue

    assert len(list(Path("/dev/fd").iterdir())) == before
