"""Tables of subjects, of the credentials they lend to jobs, and of accounts that are connected."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

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


class ConnectionState(StrEnum):
    """Whether the Hub still accepts the tokens of a connected account."""

    CONNECTED = "connected"
    REFUSED = "refused"
    """It refused them, and they are deleted; the person has to connect again."""


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


class ConnectedAccount(Record):
    """The account at the Hub of somebody who signs in at an authorization server."""

    sign_in_id: str = Field(primary_key=True, sa_type=TEXT)
    """SHA-256 of issuer and subject of the sign-in; see `connections.hash_sign_in`."""
    connection_id: UUID
    """Another one each time the person connects; what is stored names it."""
    issuer: str = Field(sa_type=TEXT)
    """The authorization server of the sign-in."""
    subject_id: str = Field(foreign_key="subject.id", sa_type=TEXT)
    sealed: bytes
    """Access and refresh token, sealed by `schema.accounts.vault`; empty once they are refused."""
    version: int = Field(default=1, sa_type=BIGINT, sa_column_kwargs=with_server_default("1"))
    """Grows with every refresh: the Hub's refresh token is for one use."""
    state: ConnectionState = Field(
        default=ConnectionState.CONNECTED,
        sa_type=TEXT,
        sa_column_kwargs=with_server_default("'connected'"),
    )
    grants: list[str] = Field(sa_type=TEXT_ARRAY, sa_column_kwargs=with_server_default("'{}'"))
    """The scopes that the person granted at the Hub."""
    expires_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """When the access token expires; the refresh token has no end that the Hub would name."""
    leased_until: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """Until when one process has the right to refresh."""
    connected_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    updated_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    used_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When a call last acted with it, to the hour; retention deletes one that is not used."""


class ConnectedAccountTable(ConnectedAccount, table=True):
    """The rows, at most one a sign-in."""

    __table_args__ = (
        check_in_enum("state", ConnectionState),
        CheckConstraint(
            "(state = 'connected') = (octet_length(sealed) > 0)", name="sealed_iff_connected"
        ),
        Index("ix_connected_account_subject_id", "subject_id"),
        Index("ix_connected_account_used_at", "used_at"),
        Index(
            "ix_connected_account_expires_at",
            "expires_at",
            postgresql_where=text("state = 'connected'"),
        ),
    )
