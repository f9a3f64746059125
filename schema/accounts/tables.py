"""A subject: who is calling, from a verified token, and the credential they lend to their jobs."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from schema.db.base import (
    BIGINT,
    DEFAULT_NOW,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMP,
    Record,
    check_in_enum,
    with_server_default,
)


class Hold(StrEnum):
    """Why nothing happens to a subject's jobs for now. Not a state: a held job keeps its place."""

    CREDENTIALS = "credentials"
    """The lent token expired or was revoked; the subject's next call brings a new one."""

    OPERATOR = "operator"
    """Whoever runs this deployment stopped it."""

    DEPENDENCY = "dependency"
    """It waits for other jobs: shown of one job, and never of a subject as a whole."""


class CredentialState(StrEnum):
    """Whether the Hub still takes a lent token."""

    VALID = "valid"
    """As far as anybody has seen."""

    REFUSED = "refused"
    """The Hub answered 401 to exactly this version of it."""


class Subject(Record):
    """A person, by the immutable id of their Hugging Face account; names can be changed."""

    id: str = Field(primary_key=True, sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    max_active: int = Field(default=100, sa_column_kwargs=with_server_default("100"))
    active: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Open remote runs of ours; kept by the moves, in their own transactions."""
    queued: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Queued jobs; kept by the moves as well."""
    monthly_budget_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The most their jobs of one month may cost; none is what this deployment allows everybody."""
    last_served_at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("'-infinity'")
    )
    """When a claim last took one of their jobs: the longest unserved goes first."""
    next_launch_at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("'-infinity'")
    )
    """Nothing is launched for them before: the Hub asked us to wait."""
    hold: Hold | None = Field(default=None, sa_type=TEXT)
    held_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)


class SubjectTable(Subject, table=True):
    """The rows, one a subject."""

    __table_args__ = (
        CheckConstraint("hold IN ('credentials', 'operator')", name="hold_known"),
        CheckConstraint("active >= 0", name="active_counted"),
        CheckConstraint("queued >= 0", name="queued_counted"),
        CheckConstraint("monthly_budget_micro_usd >= 0", name="budget_counted"),
        Index(
            "ix_subject_serve",
            "last_served_at",
            postgresql_where=text("queued > 0 AND hold IS NULL"),
        ),
    )


class Credential(Record):
    """The caller's own token, sealed, lent to their jobs until it expires."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    sealed: bytes
    """What `schema.accounts.vault` made of the token; only a worker opens it, for one call."""
    token_sha: bytes
    """SHA-256 of the token: tells the same token from a new one without opening."""
    version: int = Field(default=1, sa_type=BIGINT, sa_column_kwargs=with_server_default("1"))
    """Grows with every new token, so that a late 401 about an old one changes nothing."""
    state: CredentialState = Field(
        default=CredentialState.VALID, sa_type=TEXT, sa_column_kwargs=with_server_default("'valid'")
    )
    expires_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    grants: list[str] = Field(sa_type=TEXT_ARRAY, sa_column_kwargs=with_server_default("'{}'"))
    """What it allows: scopes and `org:NAME`; one that allows less does not replace it."""
    updated_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    seen_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When its subject last called; it is forgotten when nothing of theirs is open any more."""


class CredentialTable(Credential, table=True):
    """The rows, at most one a subject."""

    __table_args__ = (check_in_enum("state", CredentialState),)
