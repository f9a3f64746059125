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

from service.local.data_dir import write_private_file
from service.local.hub_emulator.users import LocalUser, Namespace, Permission

MAIN_BRANCH: Final = "main"
_INDEX_FILE: Final = "repos.json"
_BLOBS_FOLDER: Final = "blobs"


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
class LocalRepo:
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

    def is_readable_by(self, user: LocalUser | None) -> bool:
        """Tell whether somebody may see what is in it."""
        if not self.private:
            return True
        return (
            user is not None
            and self._is_reachable_by(user)
            and user.has_permission(Permission.READ_REPOS)
        )

    def is_writable_by(self, user: LocalUser) -> bool:
        """Tell whether somebody may change what is in it."""
        return self._is_reachable_by(user) and user.has_permission(Permission.WRITE_REPOS)

    def _is_reachable_by(self, user: LocalUser) -> bool:
        return user.find_namespace(self.owner.name) is not None

    def find_commit(self, revision: str) -> Commit | None:
        """Return the commit that a revision names."""
        if revision == MAIN_BRANCH:
            return self.commits[-1]
        return next((each for each in self.commits if each.oid == revision), None)

    def add_commit(self, title: str, files: dict[str, Blob]) -> Commit:
        """Add a commit after which these are all the files."""
        parent = self.commits[-1].oid if self.commits else ""
        said = json.dumps([self.key, parent, title, sorted((p, b.oid) for p, b in files.items())])
        # Not git's own digest, which is over a tree and a time; as long, and as unguessable.
        oid = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        self.commits.append(Commit(oid, title, files))
        return self.commits[-1]

    def list_tree(
        self, commit: Commit, parent_path: str, *, recursive: bool
    ) -> list[dict[str, Any]]:
        """List a folder; what is in the folders of it too, if that is asked for."""
        start = f"{parent_path}/" if parent_path else ""
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


class RepoStore:
    """Every repository, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._index = folder / _INDEX_FILE
        self._blobs = folder / _BLOBS_FOLDER
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._repos = {repo.key: repo for repo in self._load_index()}

    def get(self, key: str) -> LocalRepo | None:
        """Return one repository."""
        return self._repos.get(key)

    def add(self, repo: LocalRepo) -> None:
        """Take a new repository in; it has a commit of its own, as on the Hub."""
        self._repos[repo.key] = repo
        repo.add_commit("initial commit", {})
        self.save()

    def remove(self, repo: LocalRepo) -> None:
        """Forget a repository."""
        del self._repos[repo.key]
        self.save()

    def save_blob(self, content: bytes) -> Blob:
        """Write the content of a file down."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blob = Blob(oid.hexdigest(), hashlib.sha256(content).hexdigest(), len(content))
        self.get_blob_path(blob.sha256).write_bytes(content)
        return blob

    def get_blob_path(self, sha256: str) -> Path:
        """Return where the content of a file is."""
        return self._blobs / sha256

    def save(self) -> None:
        """Write down what there is; whoever has committed says so."""
        write_private_file(self._index, json.dumps([asdict(each) for each in self._repos.values()]))

    def _load_index(self) -> Iterator[LocalRepo]:
        if not self._index.exists():
            return
        for each in json.loads(self._index.read_text()):
            owner = Namespace(**each.pop("owner"))
            commits = [
                Commit(one["oid"], one["title"], {p: Blob(**b) for p, b in one["files"].items()})
                for one in each.pop("commits")
            ]
            yield LocalRepo(owner=owner, commits=commits, **each)
