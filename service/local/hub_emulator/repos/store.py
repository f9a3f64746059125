"""The repositories of the local Hub: a line of commits each, on disk, and no branch but `main`.

Unlike jobs they survive a restart. Every file is a regular one here; on the Hub large ones and
binaries go to a store of their own, and are given by a link to it: that is kept for the large.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from service.local.data_dir import write_private
from service.local.hub_emulator.users import LocalUser, Namespace, Permission

MAIN: Final = "main"
_INDEX: Final = "repos.json"
_BLOBS: Final = "blobs"


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of a file, which git names by its digest."""

    oid: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """All files there were after a change."""

    oid: str
    title: str
    files: dict[str, Blob]


@dataclass(slots=True)
class Repo:
    """A dataset or a model."""

    type: str
    owner: Namespace
    name: str
    private: bool
    commits: list[Commit] = field(default_factory=list[Commit])

    @property
    def id(self) -> str:
        """What it is called among those of its type."""
        return f"{self.owner.name}/{self.name}"

    @property
    def key(self) -> str:
        """What it is called among all."""
        return f"{self.type}s/{self.id}"

    def may_be_read(self, by: LocalUser | None) -> bool:
        """Tell whether somebody may see what is in it."""
        if not self.private:
            return True
        return by is not None and self._is_near(by) and by.may(Permission.READ_REPOS)

    def may_be_written(self, by: LocalUser) -> bool:
        """Tell whether somebody may change what is in it."""
        return self._is_near(by) and by.may(Permission.WRITE_REPOS)

    def _is_near(self, user: LocalUser) -> bool:
        return user.namespace(self.owner.name) is not None

    def at(self, revision: str) -> Commit | None:
        """Return the commit that a revision names."""
        if revision == MAIN:
            return self.commits[-1]
        return next((each for each in self.commits if each.oid == revision), None)

    def commit(self, title: str, files: dict[str, Blob]) -> Commit:
        """Add a commit after which these are all the files."""
        parent = self.commits[-1].oid if self.commits else ""
        said = json.dumps([self.key, parent, title, sorted((p, b.oid) for p, b in files.items())])
        # Not git's own digest, which is over a tree and a time; as long, and as unguessable.
        oid = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        self.commits.append(Commit(oid, title, files))
        return self.commits[-1]

    def tree(self, commit: Commit, under: str, *, recursive: bool) -> list[dict[str, Any]]:
        """List a folder; what is in the folders of it too, if that is asked for."""
        start = f"{under}/" if under else ""
        shown = dict[str, dict[str, Any]]()
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(start):
                continue
            steps = path.removeprefix(start).split("/")
            folders = [start + "/".join(steps[: at + 1]) for at in range(len(steps) - 1)]
            for folder in folders if recursive else folders[:1]:
                oid = hashlib.sha1(f"{commit.oid}{folder}".encode(), usedforsecurity=False)
                shown[folder] = {"type": "directory", "oid": oid.hexdigest(), "path": folder}
            if recursive or not folders:
                shown[path] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
        return list(shown.values())


class Repos:
    """Every repository, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._index = folder / _INDEX
        self._blobs = folder / _BLOBS
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._repos = {repo.key: repo for repo in self._remembered()}

    def get(self, key: str) -> Repo | None:
        """Return one repository."""
        return self._repos.get(key)

    def add(self, repo: Repo) -> None:
        """Take a new repository in; it has a commit of its own, as on the Hub."""
        self._repos[repo.key] = repo
        repo.commit("initial commit", {})
        self.save()

    def remove(self, repo: Repo) -> None:
        """Forget a repository."""
        del self._repos[repo.key]
        self.save()

    def keep(self, content: bytes) -> Blob:
        """Write the content of a file down."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blob = Blob(oid.hexdigest(), hashlib.sha256(content).hexdigest(), len(content))
        self.path(blob.sha256).write_bytes(content)
        return blob

    def path(self, sha256: str) -> Path:
        """Return where the content of a file is."""
        return self._blobs / sha256

    def save(self) -> None:
        """Write down what there is; whoever has committed says so."""
        write_private(self._index, json.dumps([asdict(each) for each in self._repos.values()]))

    def _remembered(self) -> Iterator[Repo]:
        if not self._index.exists():
            return
        for each in json.loads(self._index.read_text()):
            owner = Namespace(**each.pop("owner"))
            commits = [
                Commit(one["oid"], one["title"], {p: Blob(**b) for p, b in one["files"].items()})
                for one in each.pop("commits")
            ]
            yield Repo(owner=owner, commits=commits, **each)
