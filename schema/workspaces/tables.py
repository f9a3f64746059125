"""The tables of workspaces, a subject's named groups of jobs, and of the webhooks of jobs.

`schema.workspaces.webhooks` draws the states of a delivery.
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
    check_in_enum,
    with_server_default,
)


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
    webhook_target_id: UUID | None = Field(default=None)
    """Where the ends of jobs that are launched into it are announced."""


class WorkspaceTable(Workspace, table=True):
    """The rows."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["webhook_target_id", "subject_id"], ["webhook_target.id", "webhook_target.subject_id"]
        ),
        Index("ix_workspace_webhook_target_id", "webhook_target_id"),
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


class WebhookTarget(Record):
    """A URL at which a subject wants to hear of the ends of jobs."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    url_sha: bytes
    """SHA-256 of the URL, which finds the same one again; the URL is sealed."""
    host: str = Field(sa_type=TEXT)
    failures: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Attempts in a row that failed, of any delivery; it rests the longer."""
    due_at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("'-infinity'::timestamptz")
    )
    """Nothing is sent to it before."""
    leased_until: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """Until when one worker has the right to send to it."""
    disabled_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When it answered that it is gone; whoever names it again enables it."""
    used_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When a call last named it; retention deletes one that nothing refers to."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)


class WebhookTargetTable(WebhookTarget, table=True):
    """The rows."""

    __table_args__ = (
        UniqueConstraint("subject_id", "url_sha"),
        UniqueConstraint("id", "subject_id"),  # what refers to a target names its subject as well
        CheckConstraint("failures >= 0", name="failures_counted"),
        Index("ix_webhook_target_used_at", "used_at"),
        Index(
            "ix_webhook_target_leased",
            "leased_until",
            postgresql_where=text("leased_until IS NOT NULL"),
        ),
    )


class WebhookSecret(Record):
    """A secret that signs what is sent to a target."""

    id: UUID = Field(primary_key=True)
    target_id: UUID
    subject_id: str = Field(sa_type=TEXT)
    sealed: bytes
    """The URL and the secret, sealed by `schema.accounts.vault`."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    expires_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """Until when one that was replaced signs as well; none for the current one."""


class WebhookSecretTable(WebhookSecret, table=True):
    """The rows; each target has one that does not expire."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["target_id", "subject_id"],
            ["webhook_target.id", "webhook_target.subject_id"],
            ondelete="CASCADE",
        ),
        Index("ix_webhook_secret_target_id", "target_id"),
        Index(
            "one_current_secret",
            "target_id",
            unique=True,
            postgresql_where=text("expires_at IS NULL"),
        ),
    )


class DeliveryState(StrEnum):
    """The state of a delivery; `schema.workspaces.webhooks` draws the transitions."""

    WAITING = "waiting"
    """The job has not ended."""
    PENDING = "pending"
    """It is sent, and sent again, until the target takes it."""
    DELIVERED = "delivered"
    EXPIRED = "expired"
    """The target did not take it in time."""
    DISABLED = "disabled"
    """The target answered that it is gone."""


class DeliveryError(StrEnum):
    """Why an attempt failed: a closed list."""

    UNREACHABLE = "unreachable"
    """No connection, or one that broke."""
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    """The URL, or an address that its host resolves to, is not one that may be sent to."""
    STATUS = "status"
    """The answer is none of success."""
    UNSEALABLE = "unsealable"
    """The key that its URL is sealed under is not in the ring."""


class WebhookDelivery(Record):
    """The announcement of the end of one job, from the launch of the job on."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    subject_id: str = Field(sa_type=TEXT)
    target_id: UUID
    state: DeliveryState = Field(sa_type=TEXT, sa_column_kwargs=with_server_default("'waiting'"))
    attempts: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    ended_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When the job ended; the time in which it is sent again begins."""
    due_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    last_attempt_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    last_status: int | None = Field(default=None)
    """The HTTP status of the last answer; none if there was no answer."""
    last_error: DeliveryError | None = Field(default=None, sa_type=TEXT)
    delivered_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)


class WebhookDeliveryTable(WebhookDelivery, table=True):
    """The rows, at most one a job."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["target_id", "subject_id"], ["webhook_target.id", "webhook_target.subject_id"]
        ),
        check_in_enum("state", DeliveryState),
        check_in_enum("last_error", DeliveryError),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended_unless_waiting"),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", name="due_iff_pending"),
        CheckConstraint(
            "(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered_at_a_time"
        ),
        CheckConstraint("attempts >= 0", name="attempts_counted"),
        Index("ix_webhook_delivery_target_id", "target_id", "subject_id"),
        Index(
            "ix_webhook_delivery_due",
            "target_id",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )
