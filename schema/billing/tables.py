"""Tables of costs: what is held for a job, a subject's month, past usage, and the price list.

Money is counted in millionths of a dollar, as the Hub counts it.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
)
from sqlmodel import Field

from schema.db.base import BIGINT, DEFAULT_NOW, JSON, TEXT, TIMESTAMP, Record, with_server_default


class JobCost(Record):
    """What is held for a job until nothing of it can cost any more; no row if it has no price.

    In a table of its own, so that a transition rewrites only a narrow row.
    """

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    subject_id: str = Field(sa_type=TEXT)
    month: date
    """The first day, in UTC, of the month that it counts against: the month of its launch."""
    price_micro_usd: int = Field(sa_type=BIGINT)
    """Of a started minute, at the time of its launch."""
    ceiling_micro_usd: int = Field(sa_type=BIGINT)
    """The most that one launch of it can cost."""
    most_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The most that all its launches may cost, if its subject set a limit."""
    held_micro_usd: int = Field(sa_type=BIGINT)
    spent_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """What it cost; set when the hold is released, and never more than the hold was."""
    uncounted_micro_usd: int = Field(
        default=0, sa_type=BIGINT, sa_column_kwargs=with_server_default("0")
    )
    """What it cost beyond its hold: counted in no budget, but shown."""


class JobCostTable(JobCost, table=True):
    """The rows, at most one a job; a trigger settles them."""

    __table_args__ = (
        CheckConstraint("price_micro_usd >= 0", name="priced"),
        CheckConstraint("ceiling_micro_usd >= 0", name="bounded"),
        CheckConstraint("held_micro_usd >= 0", name="held_counted"),
        CheckConstraint("held_micro_usd <= most_micro_usd", name="held_within_most"),
        CheckConstraint("spent_micro_usd >= 0", name="spent_counted"),
        CheckConstraint("spent_micro_usd IS NULL OR held_micro_usd = 0", name="settled_once"),
    )


class Spending(Record):
    """A subject's month in UTC: what is held and what was spent, counted by the transitions."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    month: date = Field(primary_key=True)
    held_micro_usd: int = Field(sa_type=BIGINT, sa_column_kwargs=with_server_default("0"))
    spent_micro_usd: int = Field(sa_type=BIGINT, sa_column_kwargs=with_server_default("0"))


class SpendingTable(Spending, table=True):
    """The rows."""

    __table_args__ = (
        CheckConstraint("held_micro_usd >= 0", name="held_counted"),
        CheckConstraint("spent_micro_usd >= 0", name="spent_counted"),
    )


class UsageHistory(Record):
    """What deleted jobs of a subject were and cost: one row for all with the same names.

    A deletion adds to it what `v_usage` showed of the job, so sums over the view stay as they are.
    """

    id: int = Field(primary_key=True, sa_type=BIGINT, sa_column_args=[Identity(always=True)])
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    day: date
    """Of their creation, in UTC."""
    kind: str = Field(sa_type=TEXT)
    workspace_id: UUID | None = None
    flavor: str | None = Field(default=None, sa_type=TEXT)
    namespace: str = Field(sa_type=TEXT)
    jobs: int = Field(sa_type=BIGINT)
    succeeded: int = Field(sa_type=BIGINT)
    failed: int = Field(sa_type=BIGINT)
    cancelled: int = Field(sa_type=BIGINT)
    run_microseconds: int | None = Field(default=None, sa_type=BIGINT)
    """None if none of them was seen to start."""
    spent_micro_usd: int = Field(sa_type=BIGINT)
    uncounted_micro_usd: int = Field(sa_type=BIGINT)
    """What they cost beyond what was held for them."""
    unpriced: int = Field(sa_type=BIGINT)
    """How many had no price."""


class UsageHistoryTable(UsageHistory, table=True):
    """The rows; `schema.jobs.retention` adds to them."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "subject_id"], ["workspace.id", "workspace.subject_id"]
        ),
        UniqueConstraint(
            *("subject_id", "day", "kind", "workspace_id", "flavor", "namespace"),
            name="uq_usage_history_group",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("spent_micro_usd >= 0", name="spent_counted"),
        Index("ix_usage_history_workspace", "workspace_id"),
        Index("ix_usage_history_day", "day"),
    )


class PriceList(Record):
    """The last good answer about prices; it belongs to no subject, and all may read it."""

    source: str = Field(primary_key=True, sa_type=TEXT)
    entries: list[dict[str, Any]] = Field(sa_type=JSON)
    read_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)


class PriceListTable(PriceList, table=True):
    """The rows, one a source."""
