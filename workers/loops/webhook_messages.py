"""The message of a webhook: a small JSON body, and the headers that Standard Webhooks specifies.

    webhook-id         the same for each attempt: a receiver recognizes a repetition by it
    webhook-timestamp  seconds since 1970, of the attempt
    webhook-signature  v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"); one for each secret

The body has what a receiver needs to decide what to do, and nothing that is secret: no result, no
log and no request. Whoever wants more asks by the handle, with a token of their own.
"""

import base64
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from schema.accounts.vault import Secret
from schema.common import ids
from schema.common.ids import HandleKind
from schema.common.money import to_usd
from schema.common.text import shorten
from schema.workspaces.webhook_queue import DeliveryAttempt
from schema.workspaces.webhooks import KEY_PREFIX

MAX_RETRY_AFTER: Final = timedelta(days=1)
"""A target that says that it takes nothing for longer is tried again after a day."""
_MAX_TITLE_CHARS: Final = 120


def message_id(attempt: DeliveryAttempt) -> str:
    """Return the id of the message: a job ends once, so its handle says which end it is."""
    _, _, suffix = ids.format_handle(HandleKind.JOB, attempt.job_id).partition("_")
    return f"end_{suffix}"


def write_body(attempt: DeliveryAttempt, hub_url: str) -> bytes:
    """Write the body; it is the same for each attempt, once the cost is settled."""
    data: dict[str, Any] = {
        "job_id": ids.format_handle(HandleKind.JOB, attempt.job_id),
        "kind": attempt.kind,
        "state": attempt.state,
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "summary": _summarize(attempt),
        "cost": _show_cost(attempt),
        "workspace_id": attempt.workspace_id
        and ids.format_handle(HandleKind.WORKSPACE, attempt.workspace_id),
        "url": attempt.remote_id and f"{hub_url}/jobs/{attempt.namespace}/{attempt.remote_id}",
    }
    if attempt.is_restored:
        # The rows are older than the world: this may have been sent before they were backed up.
        data["restored"] = True
    body = {
        "type": f"job.{attempt.state}",
        "timestamp": attempt.finished_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sign_message(
    message: str, body: bytes, secrets: Sequence[Secret], *, sent_at: datetime
) -> dict[str, str]:
    """Return the headers of a message, signed with each of the secrets.

    Args:
        message: its id.
        body: its bytes, as they are sent.
        secrets: of the target, the current one first.
        sent_at: the moment of the attempt.
    """
    timestamp = str(int(sent_at.timestamp()))
    signed = b".".join((message.encode(), timestamp.encode(), body))
    signatures = [f"v1,{_sign(secret, signed)}" for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def parse_pause(retry_after: str, *, now: datetime) -> timedelta:
    """Read the header that says when to come again: seconds, or a date; 0 if it says neither."""
    if retry_after.isascii() and retry_after.isdigit():
        # Nobody waits for more digits than a day has seconds.
        return min(timedelta(seconds=int(retry_after[:9])), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return timedelta(0)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta(0)), MAX_RETRY_AFTER)


def _sign(secret: Secret, message: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(KEY_PREFIX))
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def _summarize(attempt: DeliveryAttempt) -> str:
    facts = [attempt.reason, None if not attempt.exit_code else f"exit code {attempt.exit_code}"]
    why = ", ".join(filter(None, facts))
    return (
        f"{shorten(attempt.title, _MAX_TITLE_CHARS)}: {attempt.state}{f' ({why})' if why else ''}."
    )


def _show_cost(attempt: DeliveryAttempt) -> dict[str, Any] | None:
    if not attempt.is_priced:
        return None
    spent = attempt.spent_micro_usd
    return {"usd": None if spent is None else float(to_usd(spent)), "final": spent is not None}
