"""Tables of schedules, each a request that is launched again and again, and of their firings.

`schema.schedules.store` has what a subject does with a schedule, `schema.schedules.firing` how it
fires.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from schema.db.base import (
    BIGINT,
    DEFAULT_NOW,
    JSON,
    TEXT,
    TIMESTAMP,
    Record,
    check_identifier,
    check_in_enum,
    with_server_default,
)
from schema.schedules.cron import CronTrigger


class OverlapPolicy(StrEnum):
    """What happens to a firing while a job of the same schedule has not finished."""

    SKIP = "skip"
    """Nothing is launched, and that is recorded."""

    ALLOW = "allow"
    """Another job runs beside it."""


class MissedPolicy(StrEnum):
    """What happens to times at which no worker was there."""

    RUN_ONCE = "run_once"
    """One job is launched for all of them."""

    SKIP = "skip"
    """No job is launched for them; the schedule goes on with the next time."""


class FiringOutcome(StrEnum):
    """What a firing led to."""

    LAUNCHED = "launched"
    SKIPPED = "skipped"
    """A job of an earlier firing had not finished."""
    MISSED = "missed"
    """No worker was there at the time, and the policy is to skip it."""
    REFUSED = "refused"
    """A launch would have been refused: a budget, a limit, a price that is not known."""


class Schedule(Record):
    """A request, and when it is to be launched."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    cron: str = Field(sa_type=TEXT)
    timezone: str = Field(sa_type=TEXT)
    overlap: OverlapPolicy = Field(sa_type=TEXT)
    missed: MissedPolicy = Field(sa_type=TEXT)
    workspace_id: UUID | None = Field(default=None)
    """A workspace of the same subject."""
    kind: str = Field(sa_type=TEXT)
    namespace: str = Field(sa_type=TEXT)
    title: str = Field(sa_type=TEXT)
    spec: dict[str, Any] = Field(sa_type=JSON)
    """As it was validated when the schedule was created; the spec of each job."""
    labels: dict[str, str] = Field(sa_type=JSON, sa_column_kwargs=with_server_default("'{}'"))
    most_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The most that its subject wants to pay for one job, if they set a limit."""
    ceiling_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """What one job could cost at worst when it was created; none if it has no price."""
    idempotency_key: str | None = Field(default=None, sa_type=TEXT)
    secrets_digest: str | None = Field(default=None, sa_type=TEXT)
    """Of the values of its secrets when it was created, with a key of the vault."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    paused_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    next_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When it fires next; a worker that fires it compares this and sets it."""
    asked_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When its subject requested a firing besides its times, until that firing is made."""
    due_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When a worker looks at it: the earlier of the two, or when a lease on it lapses."""

    @property
    def trigger(self) -> CronTrigger:
        """The moments at which it fires."""
        return CronTrigger(self.cron, self.timezone)


class ScheduleSnapshot(Schedule):
    """A schedule, and the database's time when it was read."""

    read_at: datetime


class ScheduleTable(Schedule, table=True):
    """The rows."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "subject_id"], ["workspace.id", "workspace.subject_id"]
        ),
        UniqueConstraint("subject_id", "idempotency_key"),
        check_identifier("kind"),
        check_in_enum("overlap", OverlapPolicy),
        check_in_enum("missed", MissedPolicy),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        CheckConstraint("length(idempotency_key) BETWEEN 1 AND 200", name="key_length"),
        CheckConstraint("pg_column_size(spec) < 1048576", name="spec_size"),
        CheckConstraint("(paused_at IS NULL) = (next_at IS NOT NULL)", name="next_unless_paused"),
        CheckConstraint(
            "(due_at IS NULL) = (next_at IS NULL AND asked_at IS NULL)", name="due_iff_awaited"
        ),
        Index("ix_schedule_list", "subject_id", "id"),
        Index("ix_schedule_workspace", "workspace_id"),
        Index("ix_schedule_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class ScheduleFiring(Record):
    """One firing of a schedule, and its outcome."""

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedule.id", ondelete="CASCADE")
    fire_at: datetime = Field(primary_key=True, sa_type=TIMESTAMP)
    """When it had to fire, or the firing was requested."""
    subject_id: str = Field(sa_type=TEXT)
    asked: bool = Field(default=False)
    """Whether its subject requested it, besides the times of the schedule."""
    became: FiringOutcome = Field(sa_type=TEXT)
    job_id: UUID | None = Field(default=None)
    """Its job, or the unfinished job that it was skipped for; not a foreign key."""
    code: str | None = Field(default=None, sa_type=TEXT)
    message: str | None = Field(default=None, sa_type=TEXT)
    """Why it was refused, in the words of the launch."""
    at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("clock_timestamp()")
    )


class ScheduleFiringTable(ScheduleFiring, table=True):
    """The rows; each is written by the statement that sets the next time."""

    __table_args__ = (
        check_in_enum("became", FiringOutcome),
        CheckConstraint(
            "(became IN ('launched', 'skipped')) = (job_id IS NOT NULL)", name="job_iff_one"
        ),
        CheckConstraint("(became = 'refused') = (message IS NOT NULL)", name="message_iff_refused"),
        Index("ix_schedule_firing_at", "at"),
    )


class ScheduleSecret(Record):
    """The secrets for its jobs, until it is deleted; see `schema.accounts.secrets`."""

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedule.id", ondelete="CASCADE")
    subject_id: str = Field(sa_type=TEXT)
    sealed: bytes


class ScheduleSecretTable(ScheduleSecret, table=True):
    """The rows, at most one a schedule."""
