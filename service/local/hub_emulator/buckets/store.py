"""The buckets of the local Hub: which files are in each, and what they are made of.

Unlike jobs they survive a restart: what somebody's work has left there is not ours to forget.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from service.local.data_dir import write_private_file
from service.local.hub_emulator.users import LocalUser, Namespace, Permission, format_timestamp

_INDEX_FILE: Final = "buckets.json"
_MAX_PATH_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a bucket; its bytes are kept under its hash."""

    path: str
    size: int
    xet_hash: str
    mtime: str | None
    uploaded_at: str

    def to_dict(self) -> dict[str, Any]:
        """Describe it as the Hub does."""
        described = {
            "type": "file",
            "path": self.path,
            "size": self.size,
            "xetHash": self.xet_hash,
            "mtime": self.mtime,
            "uploadedAt": self.uploaded_at,
        }
        return {name: value for name, value in described.items() if value is not None}


@dataclass(slots=True)
class LocalBucket:
    """A private or public folder of files; there are no versions of them."""

    owner: Namespace
    name: str
    private: bool
    created_at: str = field(default_factory=lambda: format_timestamp(datetime.now(UTC)))
    files: dict[str, StoredFile] = field(default_factory=dict[str, StoredFile])

    @property
    def id(self) -> str:
        """What it is called."""
        return f"{self.owner.name}/{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Describe it as the Hub does."""
        return {
            "id": self.id,
            "private": self.private,
            "createdAt": self.created_at,
            "size": sum(file.size for file in self.files.values()),
            "totalFiles": len(self.files),
        }

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

    def has_content(self, xet_hash: str) -> bool:
        """Tell whether one of its files is made of this."""
        return any(file.xet_hash == xet_hash for file in self.files.values())

    def put_file(self, path: str, xet_hash: str, size: int, mtime: datetime | None) -> None:
        """Add a file, or replace it."""
        now = format_timestamp(datetime.now(UTC))
        at = None if mtime is None else format_timestamp(mtime)
        self.files[path] = StoredFile(path, size, xet_hash, at, now)

    def iterate_files(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """Yield the files of a folder, and their paths in it; of all, if it has no name."""
        start = f"{folder}/" if folder else ""
        for path, file in list(self.files.items()):
            if path.startswith(start):
                yield path.removeprefix(start), file

    def list_tree(self, prefix: str, *, recursive: bool) -> list[dict[str, Any]]:
        """List what begins with a prefix; folders too, if not what is in them.

        As on the Hub it is no folder's name: `sub` finds `sub/one` and `submarine` alike.
        """
        found = [file for path, file in sorted(self.files.items()) if path.startswith(prefix)]
        if recursive:
            return [file.to_dict() for file in found]
        shown = dict[str, dict[str, Any]]()
        for file in found:
            slash = file.path.find("/", len(prefix))
            if slash < 0:
                shown[file.path] = file.to_dict()
            else:
                folder = file.path[:slash]
                shown[folder] = {
                    "type": "directory",
                    "path": folder,
                    "uploadedAt": file.uploaded_at,
                }
        return list(shown.values())


def is_valid_path(path: str) -> bool:
    """Tell whether something names a file inside of a bucket, and nothing outside of it."""
    steps = path.split("/")
    return (
        0 < len(path) <= _MAX_PATH_CHARACTERS
        and path.isprintable()
        and not {"", ".", ".."}.intersection(steps)
        and "\\" not in path
    )


class BucketStore:
    """Every bucket, in memory and in a file."""

    def __init__(self, folder: Path) -> None:
        self._index = folder / _INDEX_FILE
        self._buckets = {bucket.id: bucket for bucket in self._load_index()}

    def get(self, bucket_id: str) -> LocalBucket | None:
        """Return one bucket."""
        return self._buckets.get(bucket_id)

    def list_by_namespace(self, namespace: str) -> list[LocalBucket]:
        """Return the buckets of a namespace."""
        return [each for each in self._buckets.values() if each.owner.name == namespace]

    def add(self, bucket: LocalBucket) -> None:
        """Take a new bucket in."""
        self._buckets[bucket.id] = bucket
        self.save()

    def remove(self, bucket: LocalBucket) -> None:
        """Forget a bucket, with its files."""
        del self._buckets[bucket.id]
        self.save()

    def save(self) -> None:
        """Write everything down; whoever has changed a bucket says so."""
        write_private_file(
            self._index, json.dumps([asdict(each) for each in self._buckets.values()])
        )

    def _load_index(self) -> Iterator[LocalBucket]:
        if not self._index.exists():
            return
        for each in json.loads(self._index.read_text()):
            owner = Namespace(**each.pop("owner"))
            files = {path: StoredFile(**file) for path, file in each.pop("files").items()}
            yield LocalBucket(owner=owner, files=files, **each)
