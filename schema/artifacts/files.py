"""The files that a job left behind: small ones are stored here, others at the Hub."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary
from sqlmodel import Field

from schema.db.base import BIGINT, TEXT, Record
from schema.db.database import Transaction
from schema.db.sql import parse_statement

BYTEA: Any = LargeBinary

_UPSERT_FILES: Final = """
INSERT INTO job_file (job_id, subject_id, name, size_bytes, media_type, sha256, revision, uri,
                      content)
SELECT owner.id, owner.subject_id, given.*
  FROM owner,
       unnest(:names::text[], :sizes::bigint[], :media_types::text[], :digests::text[],
              :revisions::text[], :uris::text[], :contents::bytea[]) AS given
ON CONFLICT (job_id, name) DO UPDATE
   SET size_bytes = excluded.size_bytes,
       media_type = excluded.media_type,
       sha256 = excluded.sha256,
       revision = excluded.revision,
       uri = excluded.uri,
       content = excluded.content
"""

_SAVE_FILES: Final = parse_statement(f"""
WITH owner AS (
    SELECT id, subject_id FROM job WHERE id = :job_id
){_UPSERT_FILES}""")  # noqa: S608  # our own words

# With the end of its run the secrets of a job are deleted: whoever opens none then redacts no name.
# The job is locked first, as everywhere.
_SAVE_RUN_FILES: Final = parse_statement(f"""
WITH locked AS MATERIALIZED (
    SELECT id, subject_id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), owner AS MATERIALIZED (
    SELECT locked.*
      FROM locked
      JOIN remote_run AS run ON run.job_id = locked.id
     WHERE run.id = :run_id
       AND run.state = 'bound'
       FOR UPDATE OF run
){_UPSERT_FILES}""")  # noqa: S608  # our own words

_LIST_JOB_FILES: Final = """
SELECT job_id, name, subject_id, size_bytes, media_type, sha256, revision, uri
  FROM job_file
 WHERE subject_id = $1
   AND job_id = $2
 ORDER BY name
"""

_FIND_STORED_FILE: Final = """
SELECT job_id, name, subject_id, size_bytes, media_type, sha256, revision, uri
  FROM job_file
 WHERE subject_id = $1
   AND job_id = $2
   AND name = $3
   AND content IS NOT NULL
"""

# Only bytes with the digest that was shown: a file may have been replaced meanwhile.
_READ_FILE_BYTES: Final = parse_statement("""
SELECT substring(content FROM :start FOR :length)
  FROM job_file
 WHERE subject_id = :subject_id
   AND job_id = :job_id
   AND name = :name
   AND sha256 = :sha256
""")

MAX_FILE_BYTES: Final = 200 * 1024 * 1024
"""The largest file that can be stored here; the settings allow less."""


class JobFile(Record):
    """One file, without its bytes."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = Field(primary_key=True, sa_type=TEXT)
    """Its path, as the job or the call named it."""
    subject_id: str = Field(sa_type=TEXT)
    size_bytes: int = Field(sa_type=BIGINT)
    media_type: str | None = Field(default=None, sa_type=TEXT)
    sha256: str | None = Field(default=None, sa_type=TEXT)
    """Of a file that is stored here, in hexadecimal digits."""
    revision: str | None = Field(default=None, sa_type=TEXT)
    """The Hub's name for these bytes."""
    uri: str | None = Field(default=None, sa_type=TEXT)
    """Where it is at the Hub (`hf://…`); none if it is stored here."""


class JobFileTable(JobFile, table=True):
    """The rows, with the bytes of the files that are stored here."""

    __table_args__ = (
        CheckConstraint("(uri IS NULL) <> (content IS NULL)", name="one_place"),
        CheckConstraint("size_bytes >= 0", name="size_counted"),
        CheckConstraint("length(name) BETWEEN 1 AND 1000", name="name_length"),
        CheckConstraint(
            "content IS NULL OR (octet_length(content) = size_bytes AND sha256 IS NOT NULL"
            f" AND size_bytes <= {MAX_FILE_BYTES})",
            name="content_described",
        ),
    )

    content: bytes | None = Field(default=None, sa_type=BYTEA)


@dataclass(frozen=True, slots=True)
class NewJobFile:
    """A file to be saved."""

    name: str
    size_bytes: int
    media_type: str | None = None
    sha256: str | None = None
    revision: str | None = None
    uri: str | None = None
    content: bytes | None = None

    @classmethod
    def from_content(cls, name: str, content: bytes, media_type: str | None) -> Self:
        """Describe bytes that will be stored here."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(name, len(content), media_type, digest, content=content)


async def save_files(tx: Transaction, job_id: UUID, files: Iterable[NewJobFile]) -> None:
    """Save files of a job; a file of the same name is replaced."""
    new_files = list(files)
    if new_files:
        await tx.execute(*_SAVE_FILES.bind(job_id=job_id, **_as_columns(new_files)))


async def save_run_files(tx: Transaction, run_id: UUID, files: Iterable[NewJobFile]) -> None:
    """Save what a bound run left, before its end is recorded; nothing if it is over already."""
    new_files = list(files)
    if new_files:
        await tx.execute(*_SAVE_RUN_FILES.bind(run_id=run_id, **_as_columns(new_files)))


def _as_columns(files: list[NewJobFile]) -> dict[str, list[Any]]:
    return {
        "names": [file.name for file in files],
        "sizes": [file.size_bytes for file in files],
        "media_types": [file.media_type for file in files],
        "digests": [file.sha256 for file in files],
        "revisions": [file.revision for file in files],
        "uris": [file.uri for file in files],
        "contents": [file.content for file in files],
    }


async def list_job_files(tx: Transaction, subject_id: str, job_id: UUID) -> list[JobFile]:
    """Return the files of a job of the subject."""
    return [JobFile.from_row(row) for row in await tx.fetch(_LIST_JOB_FILES, subject_id, job_id)]


async def find_stored_file(
    tx: Transaction, subject_id: str, job_id: UUID, name: str
) -> JobFile | None:
    """Return a file that is stored here; none if the subject has no such file."""
    row = await tx.fetchrow(_FIND_STORED_FILE, subject_id, job_id, name)
    return None if row is None else JobFile.from_row(row)


async def read_file_bytes(
    tx: Transaction, file: JobFile, *, start: int, length: int
) -> bytes | None:
    """Return some bytes of a file that is stored here; none if it is not stored any more.

    Args:
        start: the first byte, from 0.
    """
    content: bytes | None = await tx.fetchval(
        *_READ_FILE_BYTES.bind(
            subject_id=file.subject_id,
            job_id=file.job_id,
            name=file.name,
            sha256=file.sha256,
            start=start + 1,  # SQL counts from 1
            length=length,
        )
    )
    return content
