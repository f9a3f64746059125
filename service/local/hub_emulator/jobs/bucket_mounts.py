"""Buckets that jobs mount: the folder that stands for each, and the upload of what a job writes.

There are no containers here, so a mounted bucket is a folder of this machine, filled before the job
runs. If an argument, or the value of a variable, begins with a mount path, the name of the folder
replaces that path. Inside an argument it is not replaced, so a shell script needs a variable.

As on the Hub, a file is not in the bucket at the moment it is written. The changes in the folder
are uploaded some time (the flush delay) after the job has ended. Of a job that was killed, only
the files are uploaded that were that old when it ended.
"""

import asyncio
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog

from service.local.hub_emulator.buckets.store import BucketStore, LocalBucket
from service.local.hub_emulator.buckets.xet_transfer import XetTransfer
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.jobs.schemas import JobVolume
from service.local.hub_emulator.shared.file_paths import is_valid_path
from service.local.hub_emulator.users import LocalUser

_NANOSECONDS_PER_SECOND: Final = 10**9

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """One volume of one job, and its folder."""

    volume: JobVolume
    bucket: LocalBucket
    folder: Path
    initial_files: Mapping[str, os.stat_result]
    """The files in the folder when the job started."""

    def iterate_files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the path and the status of each file; a link may lead out, so there are none."""
        for parent, _, names in os.walk(self.folder):
            for name in names:
                path = Path(parent, name)
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path.relative_to(self.folder).as_posix(), status

    def get_bucket_path(self, path: str) -> str:
        """Return the path in the bucket of a file in the folder."""
        return f"{self.volume.path}/{path}" if self.volume.path else path


@dataclass(slots=True)
class BucketMounts:
    """Mounts and releases the volumes of all jobs, and holds the uploads in progress."""

    buckets: BucketStore
    transfer: XetTransfer
    flush_delay: timedelta
    """How long after it was written a file comes into the bucket."""
    _uploads: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def require_access(self, volumes: list[JobVolume], user: LocalUser) -> None:
        """Check that a user may mount all volumes; the Hub does not document its refusals.

        Raises:
            HubApiError: they may not; the job must not be created.
        """
        for volume in volumes:
            bucket = self.buckets.get(volume.source)
            if bucket is None or not bucket.is_readable_by(user):
                message = f"volumes: there is no bucket {volume.source}"
                raise HubApiError(HTTPStatus.BAD_REQUEST, message)
            if not volume.read_only and not bucket.is_writable_by(user):
                message = f"volumes: you may only read the bucket {volume.source}"
                raise HubApiError(HTTPStatus.FORBIDDEN, message)

    async def mount(self, volumes: list[JobVolume], hub_url: str) -> list[MountedVolume]:
        """Create the folders of a job and fill them from the Hub at `hub_url`."""
        mounted = list[MountedVolume]()
        for volume in volumes:
            bucket = self.buckets.get(volume.source)
            if bucket is None:  # deleted after `require_access`
                continue
            folder = Path(tempfile.mkdtemp(prefix="holdfast-volume-"))
            downloads = [
                (file.xet_hash, file.size, folder / path)
                for path, file in bucket.iterate_files(volume.path)
            ]
            if downloads:
                await asyncio.to_thread(self.transfer.download, hub_url, downloads)
            empty = MountedVolume(volume, bucket, folder, {})
            mounted.append(replace(empty, initial_files=dict(empty.iterate_files())))
        return mounted

    def release(self, volumes: list[MountedVolume], hub_url: str, *, killed: bool) -> None:
        """Start the upload of what a job wrote, as far as it survives, and remove its folders."""
        if volumes:
            upload = asyncio.create_task(
                self._upload_and_remove(volumes, hub_url, time.time_ns(), killed=killed)
            )
            self._uploads.add(upload)
            upload.add_done_callback(self._uploads.discard)

    async def close(self) -> None:
        """Cancel the uploads in progress: this Hub no longer answers them."""
        self.transfer.close()
        for upload in self._uploads:
            upload.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)

    async def _upload_and_remove(
        self, volumes: list[MountedVolume], hub_url: str, ended_at_ns: int, *, killed: bool
    ) -> None:
        try:
            if not killed:
                await asyncio.sleep(self.flush_delay.total_seconds())
            flush_delay_ns = round(self.flush_delay.total_seconds() * _NANOSECONDS_PER_SECOND)
            for mounted in volumes:
                if not mounted.volume.read_only:
                    await self._upload_changes(
                        mounted, hub_url, ended_at_ns - flush_delay_ns if killed else None
                    )
        except Exception:  # the library's; as on the Hub, the job itself does not fail for it
            log.exception("mount.lost")
        finally:
            for mounted in volumes:
                shutil.rmtree(mounted.folder, ignore_errors=True)

    async def _upload_changes(
        self, mounted: MountedVolume, hub_url: str, lost_after_ns: int | None
    ) -> None:
        """Upload the changed files of a volume, and delete from the bucket those that are gone.

        Args:
            mounted: the volume.
            hub_url: the Hub to upload to.
            lost_after_ns: changes after this moment are lost; None if none are.
        """
        files = dict(mounted.iterate_files())
        changed = {
            path: status
            for path, status in files.items()
            if _is_changed(mounted.initial_files.get(path), status)
            and is_valid_path(mounted.get_bucket_path(path))
            and (lost_after_ns is None or status.st_mtime_ns <= lost_after_ns)
        }
        paths = [mounted.folder / path for path in changed]
        uploaded = await asyncio.to_thread(self.transfer.upload, hub_url, paths) if paths else []
        for (path, status), (xet_hash, size) in zip(changed.items(), uploaded, strict=True):
            mtime = datetime.fromtimestamp(status.st_mtime, UTC)
            mounted.bucket.put_file(mounted.get_bucket_path(path), xet_hash, size, mtime)
        for path in mounted.initial_files.keys() - files.keys():
            mounted.bucket.files.pop(mounted.get_bucket_path(path), None)
        self.buckets.save()


def replace_mount_path(text: str, volumes: list[MountedVolume]) -> str:
    """Replace the mount path that a text begins with by the name of its folder."""
    for mounted in volumes:
        path = mounted.volume.mount_path.rstrip("/")
        if text == path or text.startswith(f"{path}/"):
            return f"{mounted.folder}{text.removeprefix(path)}"
    return text


def _is_changed(before: os.stat_result | None, now: os.stat_result) -> bool:
    return before is None or (
        (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)
    )
