"""Tables of uploads: files that a subject sends by a link, for the jobs that it names them in.

    PENDING ──finish_receiving──▶ READY ──delete_expired_uploads──▶ (gone)
       └───────────────delete_expired_uploads──────────────────────────▲

`schema.artifacts.uploads` has the transitions and the reads.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from schema.db.base import (
    BIGINT,
    DEFAULT_NOW,
    TEXT,
    TIMESTAMP,
    Record,
    check_in_enum,
    with_server_default,
)

CHUNK_BYTES: Final = 512 * 1024
"""Bytes of each chunk of an upload but the last."""
_BYTEA: Any = LargeBinary


class UploadState(StrEnum):
    """Whether all its bytes are there."""

    PENDING = "pending"
    """Its link can be used, or is being used."""
    READY = "ready"
    """All its bytes are there, and will not change."""


class Upload(Record):
    """One file, without its bytes."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    workspace_id: UUID | None = None
    name: str = Field(sa_type=TEXT)
    """The name of a file, without a folder, in letters that mean nothing to a shell."""
    media_type: str | None = Field(default=None, sa_type=TEXT)
    """As declared; of an upload that is ready, as its first bytes show it."""
    declared_bytes: int | None = Field(default=None, sa_type=BIGINT)
    """The size that it must have; none if the link takes any."""
    size_bytes: int | None = Field(default=None, sa_type=BIGINT)
    """What counts for the quota: declared, announced by the request that sends it, or received."""
    location: str = Field(sa_type=TEXT)
    """The bucket of its workspace, with a folder, for bytes that do not stay in Postgres."""
    state: UploadState = Field(
        default=UploadState.PENDING,
        sa_type=TEXT,
        sa_column_kwargs=with_server_default("'pending'"),
    )
    attempt: UUID | None = None
    """The request that may write its bytes, or has written them."""
    sha256: str | None = Field(default=None, sa_type=TEXT)
    """In hexadecimal digits."""
    uri: str | None = Field(default=None, sa_type=TEXT)
    """Where it is in the bucket (`hf://…`); none while its bytes are chunks."""
    revision: str | None = Field(default=None, sa_type=TEXT)
    """The Hub's name for the bytes at `uri`."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    link_expires_at: datetime = Field(sa_type=TIMESTAMP)
    """Until when a request through its link may begin."""
    expires_at: datetime = Field(sa_type=TIMESTAMP)
    """From then on it is deleted, unless a job that has not ended reads it."""
    due_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When a worker moves it to the bucket; none if it stays where it is."""


class UploadTable(Upload, table=True):
    """The rows."""

    __table_args__ = (
        UniqueConstraint("id", "subject_id"),  # chunks and jobs refer to both
        ForeignKeyConstraint(
            ["workspace_id", "subject_id"], ["workspace.id", "workspace.subject_id"]
        ),
        check_in_enum("state", UploadState),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint("size_bytes > 0 AND declared_bytes > 0", name="size_counted"),
        CheckConstraint(
            "(state = 'ready') = (sha256 IS NOT NULL)"
            " AND (state = 'pending' OR (size_bytes IS NOT NULL AND attempt IS NOT NULL))",
            name="ready_described",
        ),
        CheckConstraint(
            "state = 'ready' OR (uri IS NULL AND due_at IS NULL)", name="moved_when_ready"
        ),
        CheckConstraint("uri IS NULL OR due_at IS NULL", name="moved_once"),
        Index("ix_upload_subject", "subject_id"),
        Index("ix_upload_workspace", "workspace_id"),
        Index("ix_upload_expires", "expires_at"),
        Index("ix_upload_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class UploadChunkTable(Record, table=True):
    """The bytes of an upload, in pieces; only those of its last attempt count."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["upload_id", "subject_id"], ["upload.id", "upload.subject_id"], ondelete="CASCADE"
        ),
        CheckConstraint(f"octet_length(content) BETWEEN 1 AND {CHUNK_BYTES}", name="size"),
    )

    upload_id: UUID = Field(primary_key=True)
    attempt: UUID = Field(primary_key=True)
    position: int = Field(primary_key=True)
    """Of the chunk, from 0."""
    subject_id: str = Field(sa_type=TEXT)
    content: bytes = Field(sa_type=_BYTEA)


class JobUploadTable(Record, table=True):
    """The uploads that a job reads; none is deleted before the job has ended."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["upload_id", "subject_id"], ["upload.id", "upload.subject_id"], ondelete="CASCADE"
        ),
        Index("ix_job_upload_upload", "upload_id"),
    )

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    upload_id: UUID = Field(primary_key=True)
    subject_id: str = Field(sa_type=TEXT)
