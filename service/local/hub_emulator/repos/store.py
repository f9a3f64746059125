"""The repositories of the emulated Hub: the commits of each, on disk, with `main` as only branch.

Unlike jobs they survive a restart. Every file is a regular one here. The Hub keeps large files and
binaries in a store of their own and gives them by a link; here, large files are given by a link.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from service.local.data_dir import write_private_file
from service.local.hub_emulator.shared.access import AccessControlled
from service.local.hub_emulator.users import Namespace

MAIN_BRANCH: Final = "main"
_INDEX_FILE: Final = "repos.json"
_BLOBS_FOLDER: Final = "blobs"


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of a file; `oid` is the digest that git uses as its name."""

    oid: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """All files as they were after one change, by path."""

    oid: str
    title: str
    files: dict[str, Blob]


@dataclass(slots=True)
class LocalRepo(AccessControlled):
    """A dataset or a model, with its commits from the oldest to the newest."""

    type: str
    owner: Namespace
    name: str
    private: bool
    commits: list[Commit] = field(default_factory=list[Commit])

    @property
    def id(self) -> str:
        """The full name: owner and name."""
        return f"{self.owner.name}/{self.name}"

    @property
    def key(self) -> str:
        """The type and the full name; two repositories of different types may share a name."""
        return f"{self.type}s/{self.id}"

    @property
    def web_path(self) -> str:
        """The path of the repository's page; a model's has no prefix."""
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def find_commit(self, revision: str) -> Commit | None:
        """Return a commit by its oid, or the newest one by the name of the branch."""
        if revision == MAIN_BRANCH:
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == revision), None)

    def add_commit(self, title: str, files: dict[str, Blob]) -> Commit:
        """Add a commit after which the repository has exactly these files."""
        parent = self.commits[-1].oid if self.commits else ""
        oids = sorted((path, blob.oid) for path, blob in files.items())
        content = json.dumps([self.key, parent, title, oids])
        # Of the same length as git's own digest, which is over a tree and a time.
        oid = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
        self.commits.append(Commit(oid, title, files))
        return self.commits[-1]

    def list_tree(
        self, commit: Commit, parent_path: str, *, recursive: bool
    ) -> list[dict[str, Any]]:
        """List a folder of a commit; unless recursive, without the content of its folders."""
        prefix = f"{parent_path}/" if parent_path else ""
        entries = dict[str, dict[str, Any]]()
        for path, blob in sorted(commit.files.items()):
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            folders = [prefix + "/".join(parts[:count]) for count in range(1, len(parts))]
            for folder in folders if recursive else folders[:1]:
                oid = hashlib.sha1(f"{commit.oid}{folder}".encode(), usedforsecurity=False)
                entries[folder] = {"type": "directory", "oid": oid.hexdigest(), "path": folder}
            if recursive or not folders:
                entries[path] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
        return list(entries.values())


class RepoStore:
    """All repositories, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._index = folder / _INDEX_FILE
        self._blobs = folder / _BLOBS_FOLDER
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._repos = {repo.key: repo for repo in self._load_index()}

    def get(self, key: str) -> LocalRepo | None:
        """Return a repository by its key."""
        return self._repos.get(key)

    def add(self, repo: LocalRepo) -> None:
        """Add a new repository, with an empty first commit as on the Hub."""
        self._repos[repo.key] = repo
        repo.add_commit("initial commit", {})
        self.save()

    def remove(self, repo: LocalRepo) -> None:
        """Remove a repository."""
        del self._repos[repo.key]
        self.save()

    def save_blob(self, content: bytes) -> Blob:
        """Write the content of a file to disk."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blob = Blob(oid.hexdigest(), hashlib.sha256(content).hexdigest(), len(content))
        self.get_blob_path(blob.sha256).write_bytes(content)
        return blob

    def get_blob_path(self, sha256: str) -> Path:
        """Return the path of a file's content."""
        return self._blobs / sha256

    def save(self) -> None:
        """Write the index file; whoever adds a commit has to call this."""
        write_private_file(self._index, json.dumps([asdict(repo) for repo in self._repos.values()]))

    def _load_index(self) -> Iterator[LocalRepo]:
        if not self._index.exists():
            return
        for row in json.loads(self._index.read_text()):
            owner = Namespace(**row.pop("owner"))
            commits = [
                Commit(
                    commit["oid"],
                    commit["title"],
                    {path: Blob(**blob) for path, blob in commit["files"].items()},
                )
                for commit in row.pop("commits")
            ]
            yield LocalRepo(owner=owner, commits=commits, **row)
