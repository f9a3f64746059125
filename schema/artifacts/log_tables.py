"""Tables of job logs: lines in order, numbered from 0 across attempts, kept longer than upstream.

    0 … head_lines │ dropped │ tail_start … length

A log that is too large keeps its beginning, which says how the job was set up, and its end, which
says why it failed. The tail rolls: chunks are dropped from its front as others are added.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, Text
from sqlmodel import Field

from schema.db.base import BIGINT, DEFAULT_NOW, TIMESTAMP, Record, with_server_default

LINES: Any = ARRAY(Text)


class LogChunk(Record):
    """Lines that were captured at once."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    first_line: int = Field(primary_key=True, sa_type=BIGINT)
    line_count: int = Field(sa_column_kwargs=with_server_default("0"))
    bytes: int = Field(sa_column_kwargs=with_server_default("0"))
    lines: list[str] = Field(sa_type=LINES)
    captured_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)


class LogChunkTable(LogChunk, table=True):
    """The rows."""


class JobLog(Record):
    """How long a job's log is, and which of its lines are stored."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    length: int = Field(sa_type=BIGINT)
    """Lines captured; the number of the next one."""
    head_lines: int = Field(sa_type=BIGINT)
    head_bytes: int = Field(sa_type=BIGINT)
    tail_start: int = Field(sa_type=BIGINT)
    tail_bytes: int = Field(sa_type=BIGINT)


class JobLogTable(JobLog, table=True):
    """The rows."""

    __table_args__ = (
        CheckConstraint(
            "0 <= head_lines AND head_lines <= tail_start AND tail_start <= length",
            name="in_order",
        ),
    )
