"""Uploads: the transitions of a file that a subject sends by a link, its quota, and its pins.

A request through the link is an attempt. The newest attempt writes; an older one that has not
finished is fenced off, and what it wrote is deleted. Bytes are written in chunks, each in a
transaction of its own, so neither memory nor a transaction grows with the file. The file exists
from one statement on, which compares the size of all chunks with the size that was announced.

Whatever changes what a subject has stored locks the subject first, so that two at a time cannot
both take the last of a quota. A job pins the uploads that it reads, in the transaction that makes
it: a pin moves the expiry, so a deletion under way sees that the row has changed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.artifacts.upload_tables import CHUNK_BYTES, Upload
from schema.common import ids
from schema.common.errors import NotFound, TooManyUploads
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.db.sql import parse_statement

LINK_LIFETIME: Final = timedelta(hours=1)
"""How long a request through the link of an upload may begin."""
RECEIVE_TIMEOUT: Final = timedelta(hours=6)
"""How long one such request may take."""
_PIN_MARGIN: Final = timedelta(hours=1)
"""How long an upload is there at least after a job has named it."""

# Every change of what a subject has stored waits for the one before.
_LOCK_SUBJECT: Final = "SELECT FROM subject WHERE id = $1 FOR NO KEY UPDATE"

_USED_SQL: Final = """
    SELECT count(*) AS uploads, coalesce(sum(size_bytes), 0)::bigint AS bytes
      FROM upload
     WHERE subject_id = :subject_id
       AND id <> :upload_id
"""

_CREATE_UPLOAD: Final = parse_statement(f"""
WITH used AS ({_USED_SQL}), made AS (
    INSERT INTO upload (id, subject_id, workspace_id, name, media_type, declared_bytes, size_bytes,
                        location, link_expires_at, expires_at)
    SELECT :upload_id, :subject_id, :workspace_id, :name, :media_type, :declared_bytes::bigint,
           :declared_bytes::bigint, :location, now() + :lifetime::interval,
           now() + :lifetime::interval
      FROM used
     WHERE uploads < :max_uploads::bigint
       AND bytes + coalesce(:declared_bytes::bigint, 1) <= :max_total_bytes::bigint
    RETURNING *
)
SELECT used.uploads AS used_uploads, used.bytes AS used_bytes, made.*
  FROM used
  LEFT JOIN made ON true
""")  # noqa: S608  # our own words

_BEGIN_RECEIVING: Final = parse_statement(f"""
WITH used AS ({_USED_SQL}), target AS MATERIALIZED (
    SELECT id, declared_bytes
      FROM upload
     WHERE id = :upload_id
       AND subject_id = :subject_id
       AND state = 'pending'
       AND link_expires_at > now()
), begun AS (
    UPDATE upload
       SET attempt = :attempt,
           size_bytes = :size_bytes::bigint,
           expires_at = now() + :timeout::interval
      FROM target, used
     WHERE upload.id = target.id
       AND upload.state = 'pending'
       AND :size_bytes::bigint = coalesce(target.declared_bytes, :size_bytes::bigint)
       AND used.bytes + :size_bytes::bigint <= :max_total_bytes::bigint
    RETURNING upload.id
), cleared AS (
    DELETE FROM upload_chunk
     USING begun
     WHERE upload_chunk.upload_id = begun.id
)
SELECT target.declared_bytes, used.bytes AS used_bytes, EXISTS (SELECT FROM begun) AS has_begun
  FROM target, used
""")  # noqa: S608  # our own words

# The lock is held until the chunk is committed, so it lies before whatever ends its attempt.
_APPEND_CHUNK: Final = parse_statement("""
WITH writable AS MATERIALIZED (
    SELECT id, subject_id, attempt
      FROM upload
     WHERE id = :upload_id
       AND subject_id = :subject_id
       AND state = 'pending'
       AND attempt = :attempt
       FOR SHARE
)
INSERT INTO upload_chunk (upload_id, attempt, position, subject_id, content)
SELECT id, attempt, :position, subject_id, :content FROM writable
""")

# The chunks of an earlier attempt may have been committed while a later one began.
_FINISH_RECEIVING: Final = parse_statement("""
WITH finished AS (
    UPDATE upload
       SET state = 'ready',
           sha256 = :sha256,
           media_type = :media_type,
           expires_at = now() + :retention::interval
     WHERE id = :upload_id
       AND subject_id = :subject_id
       AND state = 'pending'
       AND attempt = :attempt
       AND size_bytes = (SELECT sum(octet_length(content))
                           FROM upload_chunk
                          WHERE upload_id = :upload_id
                            AND attempt = :attempt)
    RETURNING *
), cleared AS (
    DELETE FROM upload_chunk
     USING finished
     WHERE upload_chunk.upload_id = finished.id
       AND upload_chunk.attempt <> finished.attempt
)
SELECT * FROM finished
""")

_READ_DECLARED_TYPE: Final = """
SELECT media_type FROM upload WHERE id = $1 AND subject_id = $2
"""

_ABANDON_RECEIVING: Final = """
WITH abandoned AS (
    UPDATE upload
       SET attempt = NULL,
           size_bytes = declared_bytes,
           expires_at = greatest(link_expires_at, now())
     WHERE id = $1
       AND subject_id = $2
       AND state = 'pending'
       AND attempt = $3
    RETURNING id
)
DELETE FROM upload_chunk USING abandoned WHERE upload_chunk.upload_id = abandoned.id
"""

_LIST_READY: Final = """
SELECT *
  FROM upload
 WHERE subject_id = $1
   AND id = ANY($2::uuid[])
   AND state = 'ready'
   AND expires_at > now()
"""

_READ_USAGE: Final = """
SELECT count(*) AS uploads, coalesce(sum(size_bytes), 0)::bigint AS bytes
  FROM upload
 WHERE subject_id = $1
"""

_PIN_UPLOADS: Final = parse_statement("""
WITH locked AS MATERIALIZED (
    SELECT id
      FROM upload
     WHERE subject_id = :subject_id
       AND id = ANY(:upload_ids::uuid[])
       AND state = 'ready'
       AND expires_at > now()
     ORDER BY id
       FOR NO KEY UPDATE
), pinned AS (
    UPDATE upload
       SET expires_at = greatest(expires_at, now() + :margin::interval)
      FROM locked
     WHERE upload.id = locked.id
    RETURNING upload.id
), linked AS (
    INSERT INTO job_upload (job_id, upload_id, subject_id)
    SELECT :job_id, id, :subject_id FROM pinned
    ON CONFLICT DO NOTHING
)
SELECT id FROM pinned
""")

# A pin moves `expires_at`: a row that was pinned after this statement began is read again and left.
_DELETE_EXPIRED: Final = """
DELETE FROM upload
 WHERE id IN (
           SELECT id
             FROM upload
            WHERE expires_at < now() - $2::interval
              AND NOT EXISTS (
                      SELECT FROM job_upload AS pin
                        JOIN job ON job.id = pin.job_id
                       WHERE pin.upload_id = upload.id
                         AND (job.finished_at IS NULL
                              OR EXISTS (
                                     SELECT FROM remote_run AS run
                                      WHERE run.job_id = job.id
                                        AND run.state IN ('posting', 'unknown', 'bound'))))
            ORDER BY expires_at
            LIMIT $1
              FOR UPDATE SKIP LOCKED)
"""

_FIND_PINNED: Final = """
SELECT upload.*
  FROM job_upload
  JOIN upload ON upload.id = job_upload.upload_id
 WHERE job_upload.job_id = $1
   AND upload.id = $2
   AND upload.state = 'ready'
"""

_READ_CHUNK: Final = """
SELECT content FROM upload_chunk WHERE upload_id = $1 AND attempt = $2 AND position = $3
"""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What a subject may send."""

    max_bytes: int
    """Of one upload."""
    max_total_bytes: int
    """Of all their uploads together."""
    max_uploads: int
    retention: timedelta
    """How long an upload is there after it has been received."""


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A file to be sent, as it was announced."""

    name: str
    media_type: str | None
    declared_bytes: int | None
    location: str
    workspace_id: UUID | None


@dataclass(frozen=True, slots=True)
class UploadUsage:
    """What a subject has stored, or has a right to store."""

    uploads: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The right of one request to write the bytes of an upload."""

    subject_id: str
    upload_id: UUID
    attempt: UUID
    size_bytes: int


class OtherSize(Exception):
    """The request announces another size than the upload was declared with."""

    def __init__(self, declared_bytes: int) -> None:
        self.declared_bytes = declared_bytes
        super().__init__(f"{declared_bytes} bytes were declared")


async def create_upload(
    tx: Transaction, subject_id: str, upload_id: UUID, new: NewUpload, limits: UploadLimits
) -> Upload:
    """Create an upload that waits for its bytes.

    Raises:
        TooManyUploads: the subject has no room for one more.
    """
    await tx.execute(_LOCK_SUBJECT, subject_id)
    row: Any = await tx.fetchrow(
        *_CREATE_UPLOAD.bind(
            subject_id=subject_id,
            upload_id=upload_id,
            workspace_id=new.workspace_id,
            name=new.name,
            media_type=new.media_type,
            declared_bytes=new.declared_bytes,
            location=new.location,
            lifetime=LINK_LIFETIME,
            max_uploads=limits.max_uploads,
            max_total_bytes=limits.max_total_bytes,
        )
    )
    if row["id"] is None:
        raise _too_many(limits, row["used_uploads"], row["used_bytes"])
    return Upload.from_row(row)


async def begin_receiving(
    tx: Transaction, subject_id: str, upload_id: UUID, size_bytes: int, limits: UploadLimits
) -> Receipt | None:
    """Begin an attempt, and take over from one that has not finished; none if the link is no good.

    Raises:
        OtherSize: another size was declared.
        TooManyUploads: the subject has no room for so many bytes.
    """
    receipt = Receipt(subject_id, upload_id, ids.new_id(), size_bytes)
    await tx.execute(_LOCK_SUBJECT, subject_id)
    row = await tx.fetchrow(
        *_BEGIN_RECEIVING.bind(
            subject_id=subject_id,
            upload_id=upload_id,
            attempt=receipt.attempt,
            size_bytes=size_bytes,
            timeout=RECEIVE_TIMEOUT,
            max_total_bytes=limits.max_total_bytes,
        )
    )
    if row is None:
        return None
    if row["has_begun"]:
        return receipt
    if row["declared_bytes"] not in {None, size_bytes}:
        raise OtherSize(row["declared_bytes"])
    if row["used_bytes"] + size_bytes > limits.max_total_bytes:
        raise _too_many(limits, None, row["used_bytes"])
    return None  # another request has finished in between


async def append_chunk(tx: Transaction, receipt: Receipt, position: int, content: bytes) -> bool:
    """Write a chunk; false if the attempt is over, because a later one has begun or finished."""
    done = await tx.execute(
        *_APPEND_CHUNK.bind(
            subject_id=receipt.subject_id,
            upload_id=receipt.upload_id,
            attempt=receipt.attempt,
            position=position,
            content=content,
        )
    )
    return done == "INSERT 0 1"


async def read_declared_type(tx: Transaction, receipt: Receipt) -> str | None:
    """Return the media type that an upload was declared with."""
    media_type: str | None = await tx.fetchval(
        _READ_DECLARED_TYPE, receipt.upload_id, receipt.subject_id
    )
    return media_type


async def finish_receiving(
    tx: Transaction, receipt: Receipt, *, sha256: str, media_type: str, limits: UploadLimits
) -> Upload | None:
    """Make an upload ready; none if the attempt is over, or not all of its bytes are there."""
    row = await tx.fetchrow(
        *_FINISH_RECEIVING.bind(
            subject_id=receipt.subject_id,
            upload_id=receipt.upload_id,
            attempt=receipt.attempt,
            sha256=sha256,
            media_type=media_type,
            retention=limits.retention,
        )
    )
    return None if row is None else Upload.from_row(row)


async def abandon_receiving(tx: Transaction, receipt: Receipt) -> None:
    """Delete what an attempt has written, unless it is over already; the link stays as it is."""
    await tx.execute(_ABANDON_RECEIVING, receipt.upload_id, receipt.subject_id, receipt.attempt)


async def read_usage(tx: Transaction, subject_id: str) -> UploadUsage:
    """Read what counts for the quota of a subject."""
    row: Any = await tx.fetchrow(_READ_USAGE, subject_id)
    return UploadUsage(**row)


async def find_uploads(
    tx: Transaction, subject_id: str, upload_ids: Collection[UUID]
) -> Sequence[Upload]:
    """Return uploads of the subject that can be used now, in the order of their ids.

    Raises:
        NotFound: the subject has not all of them.
    """
    rows = await tx.fetch(_LIST_READY, subject_id, sorted(set(upload_ids)))
    uploads = sorted((Upload.from_row(row) for row in rows), key=lambda upload: upload.id)
    _expect_all(upload_ids, [upload.id for upload in uploads])
    return uploads


async def pin_uploads(
    tx: Transaction, subject_id: str, job_id: UUID, upload_ids: Collection[UUID]
) -> None:
    """Have uploads stay for as long as a job that the same transaction makes has not ended.

    Raises:
        NotFound: the subject has not all of them; the transaction must not commit.
    """
    rows = await tx.fetch(
        *_PIN_UPLOADS.bind(
            subject_id=subject_id,
            job_id=job_id,
            upload_ids=sorted(set(upload_ids)),
            margin=_PIN_MARGIN,
        )
    )
    _expect_all(upload_ids, [row["id"] for row in rows])


async def delete_expired_uploads(tx: Transaction, *, limit: int, clock_lead: timedelta) -> str:
    """Delete uploads that have expired and that no job needs, with their bytes.

    Args:
        limit: how many at most.
        clock_lead: by how much the clock may be ahead of the times in the rows.
    """
    return await tx.execute(_DELETE_EXPIRED, limit, clock_lead)


async def find_pinned_upload(tx: Transaction, job_id: UUID, upload_id: UUID) -> Upload | None:
    """Return an upload that a job has pinned."""
    row = await tx.fetchrow(_FIND_PINNED, job_id, upload_id)
    return None if row is None else Upload.from_row(row)


async def read_chunk(tx: Transaction, upload: Upload, position: int) -> bytes | None:
    """Return one chunk of an upload; none behind the last, and if its bytes are elsewhere.

    Args:
        position: from 0.
    """
    content: bytes | None = await tx.fetchval(_READ_CHUNK, upload.id, upload.attempt, position)
    return content


def count_chunks(upload: Upload) -> int:
    """Count the chunks of an upload that is ready."""
    return -(-(upload.size_bytes or 0) // CHUNK_BYTES)


def _expect_all(upload_ids: Collection[UUID], present: Sequence[UUID]) -> None:
    if missing := sorted(set(upload_ids) - set(present)):
        handles = [ids.format_handle(HandleKind.UPLOAD, upload_id) for upload_id in missing]
        raise NotFound("upload", ", ".join(handles))


def _too_many(limits: UploadLimits, uploads: int | None, used_bytes: int) -> TooManyUploads:
    if uploads is not None and uploads >= limits.max_uploads:
        return TooManyUploads("uploads", limit=limits.max_uploads, used=uploads)
    return TooManyUploads("upload bytes", limit=limits.max_total_bytes, used=used_bytes)
