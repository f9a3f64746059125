"""Webhooks: where the end of a job is announced, with which secret, and how far that is.

    waiting ──the job ends──▶ pending ──taken──▶ delivered
                              ▲    │  └──────────▶ expired    not taken in time
                              └────┘  └──────────▶ disabled   the target is gone
                              an attempt fails

A delivery is a row from the launch of its job on. A trigger makes it pending in the transaction
that ends the job (`alembic/sql/0001/ends.sql`), so no end is lost. What a worker does with it is
in `schema.workspaces.webhook_queue`.

A target is a URL of one subject, with a secret of its own: who receives at one URL cannot sign for
another. The secret is made here, sealed together with the URL, and shown once, to whoever names the
URL first. The service cannot read either of them again.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from uuid import UUID

from schema.accounts.secrets import webhook_owner
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.specs.inputs.webhook_url import WebhookUrl

KEY_PREFIX: Final = "whsec_"
ROTATION_PERIOD: Final = timedelta(hours=24)
"""How long the secret before the current one signs as well."""
_SECRET_BYTES: Final = 32

# Only one that is not used for an hour is written to: launches for one target run at the same time.
_FIND_TARGET: Final = """
SELECT id
  FROM webhook_target
 WHERE subject_id = $1
   AND url_sha = $2
   AND disabled_at IS NULL
   AND used_at > now() - interval '1 hour'
"""

_NAME_TARGET: Final = """
INSERT INTO webhook_target (id, subject_id, url_sha, host)
VALUES ($1, $2, $3, $4)
ON CONFLICT (subject_id, url_sha) DO UPDATE
   SET used_at = now(),
       disabled_at = NULL
RETURNING id
"""

_INSERT_KEY: Final = """
INSERT INTO webhook_secret (id, target_id, subject_id, sealed) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING
"""

_LOCK_TARGET: Final = """
SELECT id FROM webhook_target WHERE subject_id = $1 AND url_sha = $2 FOR NO KEY UPDATE
"""

# The one before the last rotation ends at once: at most two sign at a time.
_EXPIRE_SECRETS: Final = """
UPDATE webhook_secret
   SET expires_at = CASE WHEN expires_at IS NULL THEN now() + $2 ELSE now() END
 WHERE target_id = $1
   AND (expires_at IS NULL OR expires_at > now())
"""

_SET_JOB_TARGET: Final = """
INSERT INTO webhook_delivery AS delivery (job_id, subject_id, target_id)
VALUES ($1, $2, $3)
ON CONFLICT (job_id) DO UPDATE
   SET target_id = excluded.target_id
 WHERE delivery.state = 'waiting'
   AND delivery.subject_id = excluded.subject_id
"""

_SET_WORKSPACE_TARGET: Final = parse_statement("""
WITH changed AS (
    UPDATE workspace
       SET webhook_target_id = :target_id
     WHERE id = :workspace_id
       AND subject_id = :subject_id
       AND webhook_target_id IS DISTINCT FROM :target_id
    RETURNING id
)
INSERT INTO audit_entry (subject_id, client, action, handle, facts)
SELECT :subject_id, :client, 'workspace_updated', :handle,
       jsonb_build_object('webhook_host', :host::text)
  FROM changed
""")

_READ_HOST: Final = """
SELECT host FROM webhook_target WHERE subject_id = $1 AND id = $2
"""


@dataclass(frozen=True, slots=True)
class NewTarget:
    """What a call makes of a URL unless the subject has named it before."""

    url: WebhookUrl
    target_id: UUID
    secret: Secret

    @classmethod
    def create(cls, url: WebhookUrl) -> Self:
        """Make an id and a secret; a call that is repeated after a doubt uses the same ones."""
        return cls(url, ids.new_id(), make_secret())


def make_secret() -> Secret:
    """Make a secret as the specification of Standard Webhooks writes it."""
    random_bytes = secrets.token_bytes(_SECRET_BYTES)
    return Secret(f"{KEY_PREFIX}{base64.b64encode(random_bytes).decode()}")


async def name_target(tx: Transaction, vault: Vault, subject_id: str, new: NewTarget) -> UUID:
    """Return the target of a URL, and make it if the subject has not named the URL before.

    Returns:
        Its id: that of `new` if the secret of `new` is the one that signs, and may be shown.
    """
    url = new.url
    known_id: UUID | None = await tx.fetchval(_FIND_TARGET, subject_id, url.digest)
    if known_id is not None:
        return known_id
    target_id: UUID = await tx.fetchval(
        _NAME_TARGET, new.target_id, subject_id, url.digest, url.host
    )
    if target_id == new.target_id:
        # Its id is that of the first secret, so a call that is repeated adds none.
        sealed = _seal(vault, url, new.secret, owner=webhook_owner(subject_id, target_id))
        await tx.execute(_INSERT_KEY, target_id, target_id, subject_id, sealed)
    return target_id


async def rotate_secret(
    tx: Transaction, vault: Vault, subject_id: str, url: WebhookUrl, secret: Secret
) -> bool:
    """Replace the secret of a URL; the one before signs as well for `ROTATION_PERIOD`.

    Returns:
        False if the subject has not named the URL.
    """
    target_id: UUID | None = await tx.fetchval(_LOCK_TARGET, subject_id, url.digest)
    if target_id is None:
        return False
    await tx.execute(_EXPIRE_SECRETS, target_id, ROTATION_PERIOD)
    sealed = _seal(vault, url, secret, owner=webhook_owner(subject_id, target_id))
    await tx.execute(_INSERT_KEY, ids.new_id(), target_id, subject_id, sealed)
    return True


async def set_job_target(tx: Transaction, job_id: UUID, subject_id: str, target_id: UUID) -> None:
    """Announce the end of a job at a target, in the transaction that makes the job."""
    await tx.execute(_SET_JOB_TARGET, job_id, subject_id, target_id)


async def set_workspace_target(
    tx: Transaction,
    workspace_id: UUID,
    subject_id: str,
    target_id: UUID | None,
    *,
    host: str | None,
    client: str | None = None,
) -> None:
    """Announce the ends of jobs that are launched into a workspace from now on; None: nowhere.

    Its caller holds a lock on the workspace: targets are locked behind workspaces.
    """
    await tx.execute(
        *_SET_WORKSPACE_TARGET.bind(
            workspace_id=workspace_id,
            subject_id=subject_id,
            target_id=target_id,
            host=host,
            client=client,
            handle=ids.format_handle(ids.HandleKind.WORKSPACE, workspace_id),
        )
    )


async def read_target_host(tx: Transaction, subject_id: str, target_id: UUID) -> str | None:
    """Return the host of a target of the subject."""
    host: str | None = await tx.fetchval(_READ_HOST, subject_id, target_id)
    return host


def open_target(
    vault: Vault, sealed: bytes, *, subject_id: str, target_id: UUID
) -> tuple[str, Secret]:
    """Open the URL and the secret of a target.

    Raises:
        Unsealable: their key has left the ring.
    """
    opened: Mapping[str, Any] = json.loads(
        vault.open(sealed, owner=webhook_owner(subject_id, target_id)).reveal()
    )
    return opened["url"], Secret(opened["secret"])


def _seal(vault: Vault, url: WebhookUrl, secret: Secret, *, owner: str) -> bytes:
    text = json.dumps({"url": url.text, "secret": secret.reveal()})
    return vault.seal(Secret(text), owner=owner)
