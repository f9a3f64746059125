"""A job: the work a subject asked for, and the record of how it went."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
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


class JobKind(StrEnum):
    """The kinds of job that we ship; `workers.executors` has one module for each.

    Only its own executor and tool know a kind; to the rest it is any word. See `docs/executors.md`.
    """

    HUB_JOB = "hub_job"
    """A Hugging Face Job: a remote run with an id, which can be listed, watched and killed."""

    INFERENCE = "inference"
    """One call to Inference Providers: no id, so a lost answer stays unknown."""

    BATCH = "batch"
    """Many calls to Inference Providers, each recorded: a batch goes on where it stopped."""

    SPACE_CALL = "space_call"
    """One call of a Gradio Space's endpoint."""


class JobState(StrEnum):
    """The state of a job; `schema.jobs.lifecycle` draws the transitions."""

    QUEUED = "queued"
    """Waiting for a worker; `due_at` says from when."""

    LAUNCHING = "launching"
    """A worker may have sent the create request; its answer is not known yet."""

    RUNNING = "running"
    """The remote run is known to exist, or the call is under way."""

    SUCCEEDED = "succeeded"
    """Finished; the payload holds the result."""

    FAILED = "failed"
    """Finished; `reason` says why."""

    CANCELLED = "cancelled"
    """Cancelled. Final at once, though a remote run may still have to be stopped."""


FINAL_STATES: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Reason(StrEnum):
    """Why a job did not succeed: a closed list. `service.views.job_summary` has the remedies."""

    EXIT_NONZERO = "exit_nonzero"
    OOM = "oom"
    TIMED_OUT = "timed_out"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    MISSING_PERMISSION = "missing_permission"
    INVALID_REQUEST = "invalid_request"
    LAUNCH_UNCONFIRMED = "launch_unconfirmed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    UPSTREAM_DELETED = "upstream_deleted"
    CANCELLED_UPSTREAM = "cancelled_upstream"
    STUCK_SCHEDULING = "stuck_scheduling"
    HUB_UNAVAILABLE = "hub_unavailable"
    OUTPUTS_MISSING = "outputs_missing"
    DEPENDENCY_FAILED = "dependency_failed"
    CALL_FAILED = "call_failed"
    INTERNAL = "internal"


class Job(Record):
    """One piece of work, kept until its retention ends."""

    id: UUID = Field(primary_key=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    workspace_id: UUID | None = Field(default=None)
    """A workspace of the same subject."""
    kind: str = Field(sa_type=TEXT)
    """One of `JobKind`, or the kind of an executor that is not ours."""
    namespace: str = Field(sa_type=TEXT)
    """The Hub account that acts and pays."""
    title: str = Field(sa_type=TEXT)
    """A few words for people: what runs, on what."""
    flavor: str | None = Field(default=None, sa_type=TEXT)
    """The hardware it asked for, in a column of its own for people who may not read requests."""
    digest: bytes | None = Field(default=None)
    """SHA-256 of kind, namespace and spec: the same request has the same digest."""
    rerun_of: UUID | None = Field(default=None)
    """The job it repeats; not a foreign key, because it outlives that job."""
    labels: dict[str, str] = Field(sa_type=JSON, sa_column_kwargs=with_server_default("'{}'"))
    state: JobState = Field(sa_type=TEXT, sa_column_kwargs=with_server_default("'queued'"))
    version: int = Field(sa_type=BIGINT, sa_column_kwargs=with_server_default("1"))
    """Grows with every transition and numbers its event: the ETag of the handle."""
    attempt: int = Field(sa_column_kwargs=with_server_default("0"))
    """Counts claims; each has a remote run of its own, and the state of that run is its fence."""
    tries: int = Field(sa_column_kwargs=with_server_default("0"))
    """Launches in a row that provably created nothing; the backoff depends on it."""
    due_at: datetime | None = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When a queued job may be claimed."""
    cancel_requested_at: datetime | None = Field(sa_type=TIMESTAMP)
    """Set once, never cleared."""
    reason: Reason | None = Field(sa_type=TEXT)
    message: str | None = Field(sa_type=TEXT)
    """What upstream said about it, in its words."""
    exit_code: int | None = Field()
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """How far it is, as its executor last reported; see `schema.jobs.progress`."""
    schedule_id: UUID | None = Field(default=None)
    """The schedule that fired it; not a foreign key, because it outlives the schedule."""
    adoption: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """What is known of a job that was started outside of Holdfast; None of every other."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    started_at: datetime | None = Field(sa_type=TIMESTAMP)
    finished_at: datetime | None = Field(sa_type=TIMESTAMP)


class JobTable(Job, table=True):
    """The rows, and rules that no UPDATE can break; triggers in the migration guard transitions."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "subject_id"], ["workspace.id", "workspace.subject_id"]
        ),
        check_identifier("kind"),
        check_in_enum("state", JobState),
        check_in_enum("reason", Reason),
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_iff_final",
        ),
        CheckConstraint("(state = 'queued') = (due_at IS NOT NULL)", name="due_iff_queued"),
        CheckConstraint(
            "cancel_requested_at IS NULL OR finished_at IS NOT NULL", name="cancel_is_final"
        ),
        CheckConstraint(
            "state <> 'cancelled' OR cancel_requested_at IS NOT NULL", name="cancelled_on_request"
        ),
        CheckConstraint("state <> 'failed' OR reason IS NOT NULL", name="failed_for_a_reason"),
        CheckConstraint("tries BETWEEN 0 AND 50", name="tries_bounded"),
        Index(
            "ix_job_queue",
            "subject_id",
            "created_at",
            postgresql_where=text("state = 'queued'"),
        ),
        Index("ix_job_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_job_list", "subject_id", "id"),
        Index("ix_job_workspace", "workspace_id", "id"),
        Index("ix_job_digest", "subject_id", "digest", "created_at"),
        Index(
            "ix_job_rerun_of",
            "rerun_of",
            "id",
            postgresql_where=text("rerun_of IS NOT NULL"),
        ),
        Index(
            "ix_job_schedule",
            "schedule_id",
            "id",
            postgresql_where=text("schedule_id IS NOT NULL"),
        ),
        Index(
            "ix_job_retain", "kind", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )


class JobPayload(Record):
    """The large part of a job, in a table of its own so that a transition rewrites a narrow row."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    spec: dict[str, Any] = Field(sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class JobPayloadTable(JobPayload, table=True):
    """The rows, one a job."""

    __table_args__ = (CheckConstraint("pg_column_size(spec) < 1048576", name="spec_size"),)


class JobLabel(Record):
    """One label of a job, where an index finds it; a trigger copies it from `Job.labels`."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    name: str = Field(primary_key=True, sa_type=TEXT)
    subject_id: str = Field(sa_type=TEXT)
    value: str = Field(sa_type=TEXT)


class JobLabelTable(JobLabel, table=True):
    """The rows; inserted with their job, never changed."""

    __table_args__ = (Index("ix_job_label_find", "subject_id", "name", "value", "job_id"),)


class JobSecret(Record):
    """The secrets of a job until it is over; see `schema.accounts.secrets`."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    subject_id: str = Field(sa_type=TEXT)
    sealed: bytes


class JobSecretTable(JobSecret, table=True):
    """The rows, at most one a job."""


class UnseenJob(Record):
    """A job that has ended, and whose end no call has shown yet; a trigger writes it at the end."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    subject_id: str = Field(sa_type=TEXT)
    page: UUID | None = Field(default=None)
    """The page of a list that showed it last; acknowledging that page deletes the row."""


class UnseenJobTable(UnseenJob, table=True):
    """The rows, at most one a job."""

    __table_args__ = (
        Index("ix_unseen_job_list", "subject_id", "job_id"),
        Index("ix_unseen_job_page", "page", postgresql_where=text("page IS NOT NULL")),
    )


class EventKind(StrEnum):
    """What happened to a job; each is written by one transition, in its transaction."""

    CREATED = "created"
    CLAIMED = "claimed"
    BEGUN = "begun"
    REJECTED = "rejected"
    HANDED_BACK = "handed_back"
    """It stopped so that others get its slot, and is queued again."""
    UNCONFIRMED = "unconfirmed"
    BOUND = "bound"
    ABSENT = "absent"
    UNWATCHED = "unwatched"
    SURPLUS = "surplus"
    STAGE = "stage"
    PROGRESSED = "progressed"
    RELEASED = "released"
    EXPIRED = "expired"
    ENDED = "ended"
    CANCELLED = "cancelled"


class JobEvent(Record):
    """One transition of a job. Versions have no gaps; the last event has the state."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    version: int = Field(primary_key=True, sa_type=BIGINT)
    kind: EventKind = Field(sa_type=TEXT)
    state: JobState = Field(sa_type=TEXT)
    """The state of the job after the transition."""
    actor: str = Field(sa_type=TEXT)
    """The subject or the worker that made it."""
    facts: dict[str, Any] = Field(sa_type=JSON, sa_column_kwargs=with_server_default("'{}'"))
    at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("clock_timestamp()")
    )


class JobEventTable(JobEvent, table=True):
    """The rows; appended, never changed."""

    __table_args__ = (check_in_enum("kind", EventKind), check_in_enum("state", JobState))


class IdempotencyKey(Record):
    """A key by which a caller marks two requests as the same."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    key: str = Field(primary_key=True, sa_type=TEXT)
    job_id: UUID = Field(foreign_key="job.id", ondelete="CASCADE", index=True)
    expires_at: datetime = Field(sa_type=TIMESTAMP, index=True)
    secrets_digest: str | None = Field(default=None, sa_type=TEXT)
    """Of the values of the request's secrets, with a key of the vault."""


class IdempotencyKeyTable(IdempotencyKey, table=True):
    """The rows."""

    __table_args__ = (CheckConstraint("length(key) BETWEEN 1 AND 200", name="key_length"),)
