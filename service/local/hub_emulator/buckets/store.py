"""The buckets of the emulated Hub, with the path and the content hash of each file.

Unlike jobs they survive a restart, because jobs leave their results there.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from service.local.data_dir import write_private_file
from service.local.hub_emulator.shared.access import AccessControlled
from service.local.hub_emulator.shared.clock import read_clock
from service.local.hub_emulator.users import Namespace, format_timestamp

_INDEX_FILE: Final = "buckets.json"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a bucket; `XetStore` has its bytes, under the hash."""

    path: str
    size: int
    xet_hash: str
    mtime: str | None
    uploaded_at: str

    def to_dict(self) -> dict[str, Any]:
        """Describe the file as the Hub does."""
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
class LocalBucket(AccessControlled):
    """A private or public folder of files, without versions."""

    owner: Namespace
    name: str
    private: bool
    created_at: str = field(default_factory=lambda: format_timestamp(read_clock()))
    files: dict[str, StoredFile] = field(default_factory=dict[str, StoredFile])

    @property
    def id(self) -> str:
        """The full name: owner and name."""
        return f"{self.owner.name}/{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Describe the bucket as the Hub does."""
        return {
            "id": self.id,
            "private": self.private,
            "createdAt": self.created_at,
            "size": sum(file.size for file in self.files.values()),
            "totalFiles": len(self.files),
        }

    def has_content(self, xet_hash: str) -> bool:
        """Say whether one of the files has this content."""
        return any(file.xet_hash == xet_hash for file in self.files.values())

    def put_file(self, path: str, xet_hash: str, size: int, mtime: datetime | None) -> None:
        """Add or replace a file."""
        uploaded_at = format_timestamp(read_clock())
        modified_at = None if mtime is None else format_timestamp(mtime)
        self.files[path] = StoredFile(path, size, xet_hash, modified_at, uploaded_at)

    def iterate_files(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """Yield the files below a folder with their paths in it; an empty name is the bucket."""
        prefix = f"{folder}/" if folder else ""
        for path, file in list(self.files.items()):
            if path.startswith(prefix):
                yield path.removeprefix(prefix), file

    def list_tree(self, prefix: str, *, recursive: bool) -> list[dict[str, Any]]:
        """List the files whose path begins with `prefix`; unless recursive, folders unopened.

        As on the Hub the prefix is not a folder: `sub` finds both `sub/one` and `submarine`.
        """
        files = [file for path, file in sorted(self.files.items()) if path.startswith(prefix)]
        if recursive:
            return [file.to_dict() for file in files]
        entries = dict[str, dict[str, Any]]()
        for file in files:
            slash = file.path.find("/", len(prefix))
            if slash < 0:
                entries[file.path] = file.to_dict()
            else:
                folder = file.path[:slash]
                entries[folder] = {
                    "type": "directory",
                    "path": folder,
                    "uploadedAt": file.uploaded_at,
                }
        return list(entries.values())


class BucketStore:
    """All buckets, in memory and in an index file."""

    def __init__(self, folder: Path) -> None:
        self._index = folder / _INDEX_FILE
        self._buckets = {bucket.id: bucket for bucket in self._load_index()}

    def get(self, bucket_id: str) -> LocalBucket | None:
        """Return a bucket by its full name."""
        return self._buckets.get(bucket_id)

    def list_by_namespace(self, namespace: str) -> list[LocalBucket]:
        """Return the buckets of a namespace."""
        return [bucket for bucket in self._buckets.values() if bucket.owner.name == namespace]

    def add(self, bucket: LocalBucket) -> None:
        """Add a new bucket."""
        self._buckets[bucket.id] = bucket
        self.save()

    def remove(self, bucket: LocalBucket) -> None:
        """Remove a bucket, with its files."""
        del self._buckets[bucket.id]
        self.save()

    def save(self) -> None:
        """Write the index file; whoever changes a bucket has to call this."""
        write_private_file(
            self._index, json.dumps([asdict(bucket) for bucket in self._buckets.values()])
        )

    def _load_index(self) -> Iterator[LocalBucket]:
        if not self._index.exists():
            return
        for row in json.loads(self._index.read_text()):
            owner = Namespace(**row.pop("owner"))
            files = {path: StoredFile(**file) for path, file in row.pop("files").items()}
            yield LocalBucket(owner=owner, files=files, **row)
