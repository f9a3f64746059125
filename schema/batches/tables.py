"""The items of a batch: each is one of its many calls, with the outcome.

    PENDING ──mark──▶ SENT ──▶ DONE | FAILED | UNKNOWN
       ▲               │  (refused for now, or to be sent again)
       └───────────────┘

`schema.batches.store` has the transitions.
"""

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlmodel import Field

from schema.db.base import BIGINT, JSON, TEXT, Record, check_in_enum, with_server_default
from schema.jobs.tables import Reason


class ItemState(StrEnum):
    """The state of an item. An item that is done, failed or unknown never changes again."""

    PENDING = "pending"
    """Not sent, or provably not carried out."""

    SENT = "sent"
    """May have been sent. Unless its run still awaits the answer, the outcome is not known."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Sent, and the answer was lost: it may have been carried out, and charged."""


FINAL_ITEM_STATES = (ItemState.DONE, ItemState.FAILED, ItemState.UNKNOWN)


class BatchItem(Record):
    """One item of a batch, found again by its `custom_id`."""

    job_id: UUID = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE")
    position: int = Field(primary_key=True)
    """Its place in the request, from 0."""
    subject_id: str = Field(sa_type=TEXT)
    custom_id: str = Field(sa_type=TEXT)
    request: dict[str, Any] = Field(sa_type=JSON)
    """Its inputs, and parameters that the other items do not share."""
    state: ItemState = Field(sa_type=TEXT, sa_column_kwargs=with_server_default("'pending'"))
    run_id: UUID | None = Field(default=None)
    """The run that sent it last; not a foreign key: it only tells runs of one job apart."""
    tries: int = Field(sa_column_kwargs=with_server_default("0"))
    """How often it was sent without an outcome."""
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """Its answer; of a failed one, what came back and can be used for nothing."""
    reason: Reason | None = Field(default=None, sa_type=TEXT)
    message: str | None = Field(default=None, sa_type=TEXT)
    """What upstream said about it, in its words."""
    prompt_tokens: int | None = Field(default=None, sa_type=BIGINT)
    completion_tokens: int | None = Field(default=None, sa_type=BIGINT)


class BatchItemTable(BatchItem, table=True):
    """The rows; no index has the state, so that a transition of an item updates no index."""

    __table_args__ = (
        check_in_enum("state", ItemState),
        CheckConstraint("length(custom_id) BETWEEN 1 AND 200", name="custom_id_length"),
        CheckConstraint(
            "state = 'failed' OR (state = 'done') = (result IS NOT NULL)",
            name="done_with_a_result",
        ),
        CheckConstraint(
            "(state IN ('failed', 'unknown')) = (reason IS NOT NULL)", name="failed_for_a_reason"
        ),
        CheckConstraint("state <> 'sent' OR run_id IS NOT NULL", name="sent_by_a_run"),
        UniqueConstraint("job_id", "custom_id"),
        {"postgresql_with": {"fillfactor": "70"}},
    )
