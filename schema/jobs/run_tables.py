"""A remote run: one thing upstream that may cost money. A job has one for each attempt.

It is a row of its own because a cancelled job can still have a run to kill, and because a lost
answer can leave a run whose existence is unknown.

    POSTING ──▶ BOUND ──▶ ENDED         POSTING, UNKNOWN ──▶ REJECTED   provably not created
       │          ▲                     POSTING ──▶ ENDED   a call that was answered, or lost
       └─▶ UNKNOWN┴─▶ ABSENT            ABSENT, REJECTED ──▶ BOUND   after all: surplus, killed
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
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


class RunAddresses(TypedDict):
    """Where a container can be reached from outside."""

    exposed: list[str]
    """One URL for each exposed port."""
    ssh: str | None


class RunState(StrEnum):
    """What is known of a remote run."""

    POSTING = "posting"
    """A worker holds the lease to create it, until `due_at`; it may exist."""

    UNKNOWN = "unknown"
    """The create request had no clear answer; the Hub's listings will show whether it exists."""

    REJECTED = "rejected"
    """Provably never created."""

    ABSENT = "absent"
    """Not listed until the settle window closed; watched for a late arrival."""

    BOUND = "bound"
    """Exists, and its id is known."""

    ENDED = "ended"
    """Seen to be over."""


class DesiredState(StrEnum):
    """Whether a run may live. A kill order is never taken back."""

    ALIVE = "alive"
    DEAD = "dead"


class RunOrigin(StrEnum):
    """Why a run exists."""

    OURS = "ours"
    """The one its attempt asked for."""

    SURPLUS = "surplus"
    """A second one upstream with our label; recorded only to be killed."""


class RemoteRun(Record):
    """One run; its `id` is the nonce that labels it upstream."""

    id: UUID = Field(primary_key=True)
    job_id: UUID = Field(foreign_key="job.id", index=True)
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    namespace: str = Field(sa_type=TEXT)
    kind: str = Field(sa_type=TEXT)
    attempt: int
    origin: RunOrigin = Field(sa_type=TEXT, sa_column_kwargs=with_server_default("'ours'"))
    state: RunState = Field(sa_type=TEXT)
    desired: DesiredState = Field(sa_type=TEXT, sa_column_kwargs=with_server_default("'alive'"))
    remote_id: str | None = Field(sa_type=TEXT)
    due_at: datetime | None = Field(sa_type=TIMESTAMP)
    """When a worker has to act on it; while posting, when the lease of its worker lapses."""
    absent_after: datetime = Field(sa_type=TIMESTAMP)
    """No listing before this moment can prove that it was never created."""
    misses: int = Field(sa_column_kwargs=with_server_default("0"))
    """Complete listings that did not show it."""
    kills: int = Field(sa_column_kwargs=with_server_default("0"))
    """Cancel requests sent upstream; their backoff depends on it."""
    stage: str | None = Field(sa_type=TEXT)
    """What upstream last called its state, in upstream's words."""
    log_lines: int = Field(sa_type=BIGINT, sa_column_kwargs=with_server_default("0"))
    """Upstream log lines already captured."""
    posted_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    seen_at: datetime | None = Field(sa_type=TIMESTAMP)
    """When upstream last reported anything about it."""
    deadline_at: datetime | None = Field(sa_type=TIMESTAMP)
    """When its stage has lasted too long; set again with each stage.

    Of an absent run: until when it is watched for, and may still cost something.
    """
    cost_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """What it cost by the time it was seen to be over, if its job has a price."""
    addresses: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """Where it can be reached while it runs, if its job asked for that: `RunAddresses`."""


class RemoteRunTable(RemoteRun, table=True):
    """The rows, and the fence: a job has at most one launch that is or may be alive."""

    __table_args__ = (
        check_identifier("kind"),
        check_in_enum("origin", RunOrigin),
        check_in_enum("state", RunState),
        check_in_enum("desired", DesiredState),
        CheckConstraint("state <> 'bound' OR remote_id IS NOT NULL", name="bound_by_id"),
        CheckConstraint("remote_id IS NULL OR state IN ('bound', 'ended')", name="id_when_seen"),
        CheckConstraint("origin = 'ours' OR desired = 'dead'", name="surplus_dies"),
        CheckConstraint(
            "(state IN ('posting', 'unknown') OR (state = 'bound' AND desired = 'dead'))"
            " = (due_at IS NOT NULL)",
            name="owed_a_step",
        ),
        UniqueConstraint("namespace", "remote_id", "subject_id"),
        Index(
            "one_open_launch",
            "job_id",
            unique=True,
            postgresql_where=text("origin = 'ours' AND state IN ('posting', 'unknown', 'bound')"),
        ),
        Index(
            "one_run_an_attempt",
            "job_id",
            "attempt",
            unique=True,
            postgresql_where=text("origin = 'ours'"),
        ),
        CheckConstraint("cost_micro_usd >= 0", name="cost_counted"),
        Index(
            "ix_remote_run_watched",
            "deadline_at",
            postgresql_where=text("state = 'absent' AND deadline_at IS NOT NULL"),
        ),
        Index(
            "ix_remote_run_open",
            "subject_id",
            "kind",
            postgresql_where=text("origin = 'ours' AND state IN ('posting', 'unknown', 'bound')"),
        ),
        Index("ix_remote_run_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "ix_remote_run_live",
            "subject_id",
            "namespace",
            postgresql_where=text("state = 'bound'"),
        ),
    )


class PollGroup(Record):
    """What one listing of the Hub covers: a subject's runs in one namespace."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    namespace: str = Field(primary_key=True, sa_type=TEXT)
    live: int = Field(sa_column_kwargs=with_server_default("0"))
    """Bound runs; counted by the transitions."""
    due_at: datetime | None = Field(sa_type=TIMESTAMP)
    """When to list next; while a worker is listing, when its lease lapses."""
    epoch: int = Field(sa_type=BIGINT, sa_column_kwargs=with_server_default("0"))
    """Counts leases; a worker whose lease lapsed cannot release the group."""
    watch_until: datetime | None = Field(sa_type=TIMESTAMP)
    """Keep listing until then: an absent run may still arrive."""


class PollGroupTable(PollGroup, table=True):
    """The rows."""

    __table_args__ = (
        CheckConstraint("live >= 0", name="live_counted"),
        CheckConstraint("live = 0 OR due_at IS NOT NULL", name="watched_while_live"),
        Index("ix_poll_group_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )
