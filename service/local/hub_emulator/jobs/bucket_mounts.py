"""How does a job of the local Hub get the buckets it mounts, and they what it writes?

There are no containers here, so a mounted bucket is a folder of this machine, filled before the job
runs. Where a mount path stands at the start of an argument, or of the value of a variable, that
folder's name is put in its place; inside of an argument it is not, so a shell needs a variable.

As on the Hub nothing is in the bucket the moment it is written. What changed in the folder is
uploaded a while after the job has ended; and if it was killed, only what had been written for that
long by then.
"""

import asyncio
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog

from service.local.hub_emulator.buckets.store import BucketStore, LocalBucket, is_valid_path
from service.local.hub_emulator.buckets.xet_transfer import XetTransfer
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.jobs.schemas import JobVolume
from service.local.hub_emulator.users import LocalUser

_NANOSECONDS_PER_SECOND: Final = 10**9

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """One volume of one job, and where it is."""

    volume: JobVolume
    bucket: LocalBucket
    folder: Path
    initial_files: Mapping[str, os.stat_result]
    """The files that it had when the job began."""

    def iterate_files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files there are, and no link: it may lead out of the folder."""
        for parent, _, names in os.walk(self.folder):
            for name in names:
                path = Path(parent, name)
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):
                    yield path.relative_to(self.folder).as_posix(), seen

    def get_bucket_path(self, path: str) -> str:
        """Return what a file of the folder is called in the bucket."""
        return f"{self.volume.path}/{path}" if self.volume.path else path


@dataclass(slots=True)
class BucketMounts:
    """The volumes of every job, and the uploads that are still to be made."""

    buckets: BucketStore
    transfer: XetTransfer
    flush_delay: timedelta
    """How long what is written stays out of the bucket."""
    _uploads: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def require_access(self, volumes: list[JobVolume], user: LocalUser) -> None:
        """Refuse what the caller may not mount; what the Hub says then is not documented.

        Raises:
            Refusal: and there is no job.
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
        """Make the folders of a job, filled from the Hub at `url`."""
        mounted = list[MountedVolume]()
        for volume in volumes:
            bucket = self.buckets.get(volume.source)
            if bucket is None:  # deleted since
                continue
            folder = Path(tempfile.mkdtemp(prefix="holdfast-volume-"))
            wanted = [
                (file.xet_hash, file.size, folder / path)
                for path, file in bucket.iterate_files(volume.path)
            ]
            if wanted:
                await asyncio.to_thread(self.transfer.download, hub_url, wanted)
            made = MountedVolume(volume, bucket, folder, {})
            mounted.append(MountedVolume(volume, bucket, folder, dict(made.iterate_files())))
        return mounted

    def release(self, volumes: list[MountedVolume], hub_url: str, *, killed: bool) -> None:
        """Have what a job wrote uploaded, as far as it survives, and its folders removed."""
        if volumes:
            upload = asyncio.create_task(
                self._upload_and_remove(volumes, hub_url, time.time_ns(), killed=killed)
            )
            self._uploads.add(upload)
            upload.add_done_callback(self._uploads.discard)

    async def close(self) -> None:
        """Drop the uploads that are still to be made: nobody is there to take them."""
        self.transfer.close()
        for upload in self._uploads:
            upload.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)

    async def _upload_and_remove(
        self, volumes: list[MountedVolume], hub_url: str, ended_at: int, *, killed: bool
    ) -> None:
        try:
            if not killed:
                await asyncio.sleep(self.flush_delay.total_seconds())
            lost_after = ended_at - round(
                self.flush_delay.total_seconds() * _NANOSECONDS_PER_SECOND
            )
            for each in volumes:
                if not each.volume.read_only:
                    await self._write_back(each, hub_url, lost_after if killed else None)
        except Exception:  # of the library; as on the Hub, nobody hears of it but who looks
            log.exception("mount.lost")
        finally:
            for each in volumes:
                shutil.rmtree(each.folder, ignore_errors=True)

    async def _write_back(
        self, volume: MountedVolume, hub_url: str, lost_after: int | None
    ) -> None:
        found = dict(volume.iterate_files())
        changed = {
            path: seen
            for path, seen in found.items()
            if _is_changed(volume.initial_files.get(path), seen)
            and is_valid_path(volume.get_bucket_path(path))
            and (lost_after is None or seen.st_mtime_ns <= lost_after)
        }
        paths = [volume.folder / path for path in changed]
        made = await asyncio.to_thread(self.transfer.upload, hub_url, paths) if paths else []
        for (path, seen), (xet_hash, size) in zip(changed.items(), made, strict=True):
            at = datetime.fromtimestamp(seen.st_mtime, UTC)
            volume.bucket.put_file(volume.get_bucket_path(path), xet_hash, size, at)
        for path in volume.initial_files.keys() - found.keys():
            volume.bucket.files.pop(volume.get_bucket_path(path), None)
        self.buckets.save()


def replace_mount_path(text: str, volumes: list[MountedVolume]) -> str:
    """Put a folder's name where the path it is mounted at begins a text."""
    for each in volumes:
        path = each.volume.mount_path.rstrip("/")
        if text == path or text.startswith(f"{path}/"):
            return f"{each.folder}{text.removeprefix(path)}"
    return text


def _is_changed(before: os.stat_result | None, now: os.stat_result) -> bool:
    return before is None or (
        (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)
    )
