"""Uploads that a job has pinned, read chunk by chunk."""

from uuid import UUID

from schema.artifacts import uploads
from schema.common.ids import HandleKind, format_handle
from schema.db.database import Database
from schema.hub.url_fetcher import FetchRefused


class UploadReader:
    """Reads uploads for the jobs that name them, and for no others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, job_id: UUID, upload_id: UUID, *, max_bytes: int) -> bytes:
        """Read a complete upload.

        Raises:
            FetchRefused: the job has not pinned it, or it is larger than the limit.
            Unavailable: the database cannot be reached.
        """
        handle = format_handle(HandleKind.UPLOAD, upload_id)
        async with self._database.transaction() as tx:
            upload = await uploads.find_pinned_upload(tx, job_id, upload_id)
        if upload is None:
            raise FetchRefused(f"There is no upload {handle} for this job.")
        if (upload.size_bytes or 0) > max_bytes:
            raise FetchRefused(f"{handle} is larger than {max_bytes:,} bytes, which is the limit.")
        chunks: list[bytes] = []
        for position in range(uploads.count_chunks(upload)):
            async with self._database.transaction() as tx:
                chunk = await uploads.read_chunk(tx, upload, position)
            if chunk is None:
                raise FetchRefused(f"The bytes of {handle} are not there any more.")
            chunks.append(chunk)
        return b"".join(chunks)
