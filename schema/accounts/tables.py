"""Tables of subjects, who call with a verified token, and of the credentials they lend to jobs."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from schema.db.base import (
    BIGINT,
    DEFAULT_NOW,
    JSON,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMP,
    Record,
    check_in_enum,
    with_server_default,
)


class Hold(StrEnum):
    """Why nothing happens to a subject's jobs for now. No state: a held job stays in its place."""

    CREDENTIALS = "credentials"
    """The lent token expired or was revoked; the subject's next call brings a new one."""

    OPERATOR = "operator"
    """The operator of this deployment paused the subject."""

    RESTORE = "restore"
    """Their rows came from a backup, and are being compared with the Hub's: never stored here."""

    DEPENDENCY = "dependency"
    """It waits for other jobs: shown for one job, never stored for a subject."""


class CredentialState(StrEnum):
    """Whether the Hub still accepts a lent token."""

    VALID = "valid"
    """No refusal is known."""

    REFUSED = "refused"
    """The Hub answered 401 to exactly this version of it."""


class Subject(Record):
    """A person, by the immutable id of their Hugging Face account; the name can change."""

    id: str = Field(primary_key=True, sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    max_active: int | None = Field(default=None)
    """How many of their jobs may run at a time; none is the default of this deployment."""
    max_active_by_kind: dict[str, int] = Field(
        default_factory=dict, sa_type=JSON, sa_column_kwargs=with_server_default("'{}'")
    )
    """The same of kinds of job; a kind without an entry has that of the deployment, if any."""
    active: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Open remote runs of ours; counted by the transitions, in their own transactions."""
    queued: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Queued jobs; counted by the transitions too."""
    monthly_budget_micro_usd: int | None = Field(default=None, sa_type=BIGINT)
    """The most their jobs of one month may cost; none is the default of this deployment."""
    last_served_at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("'-infinity'")
    )
    """When one of their jobs was last claimed: the longest unserved goes first."""
    next_launch_at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("'-infinity'")
    )
    """Nothing is launched for them before this: the Hub asked us to wait."""
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
    """The subject's own token, sealed, lent to their jobs until it expires."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    sealed: bytes
    """The token, sealed by `schema.accounts.vault`; only a worker opens it, for one call."""
    token_sha: bytes
    """SHA-256 of the token: the same token is recognized without opening it."""
    version: int = Field(default=1, sa_type=BIGINT, sa_column_kwargs=with_server_default("1"))
    """Grows with every new token, so that a late 401 about an old one changes nothing."""
    state: CredentialState = Field(
        default=CredentialState.VALID, sa_type=TEXT, sa_column_kwargs=with_server_default("'valid'")
    )
    expires_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    grants: list[str] = Field(sa_type=TEXT_ARRAY, sa_column_kwargs=with_server_default("'{}'"))
    """What it allows: scopes and `org:NAME`; a token that allows less does not replace it."""
    updated_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    seen_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When its subject last called; a while later it is deleted, if nothing of theirs is open."""


class CredentialTable(Credential, table=True):
    """The rows, at most one a subject."""

    __table_args__ = (check_in_enum("state", CredentialState),)
