"""A job's log as we keep it: in order, numbered from 0 across attempts, outliving upstream's."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text
from sqlmodel import Field

from schema.base import BIGINT, NOW, TIMESTAMP, Record

LINES: Any = ARRAY(Text)


class LogChunk(Record):
    """Lines that were captured together."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    first_line: int = Field(primary_key=True, sa_type=BIGINT)
    lines: list[str] = Field(sa_type=LINES)
    captured_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=NOW)


class LogChunkTable(LogChunk, table=True):
    """The rows."""
