"""A workspace: a subject's named group of jobs."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlmodel import Field

from schema.base import NOW, TEXT, TIMESTAMP, Record


class Workspace(Record):
    """One named group; a job is in at most one."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=NOW)


class WorkspaceTable(Workspace, table=True):
    """The rows."""

    __table_args__ = (
        UniqueConstraint("subject_id", "name"),
        UniqueConstraint("id", "subject_id"),  # what a job refers to: a workspace, and whose it is
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
    )
