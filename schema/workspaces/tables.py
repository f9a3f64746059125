"""The table of workspaces, which are a subject's named groups of jobs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlmodel import Field

from schema.db.base import BIGINT, DEFAULT_NOW, JSON, TEXT, TIMESTAMP, Record, with_server_default


class Workspace(Record):
    """One named group; a job is in at most one."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    budget_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The most that all its jobs together may cost; none is no limit."""
    held_micro_usd: int = Field(
        default=0, sa_type=BIGINT, sa_column_kwargs=with_server_default("0")
    )
    """What its jobs may still cost; counted by the transitions, as is what they did cost."""
    spent_micro_usd: int = Field(
        default=0, sa_type=BIGINT, sa_column_kwargs=with_server_default("0")
    )
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    defaults: dict[str, Any] = Field(
        default_factory=dict[str, Any], sa_type=JSON, sa_column_kwargs=with_server_default("'{}'")
    )
    """Defaults for launches into it; see `schema.workspaces.defaults`."""
    confirm_above_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The person is asked before a launch that could cost more; none is never."""
    archived_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """Since when it accepts no new jobs."""


class WorkspaceTable(Workspace, table=True):
    """The rows."""

    __table_args__ = (
        UniqueConstraint("subject_id", "name"),
        UniqueConstraint(
            "id", "subject_id"
        ),  # a job refers to a workspace together with its subject
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("budget_micro_usd >= 0", name="budget_counted"),
        CheckConstraint("held_micro_usd >= 0", name="held_counted"),
        CheckConstraint("spent_micro_usd >= 0", name="spent_counted"),
        CheckConstraint("confirm_above_micro_usd >= 0", name="confirm_above_positive"),
    )
