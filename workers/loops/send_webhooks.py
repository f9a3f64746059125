"""The webhook loop: announces the ends of jobs where their subjects want to hear of them.

    lease targets ──▶ for each: begin an attempt ──▶ POST ──▶ record what became of it
                                ▲                               │
                                └──── while it takes them ──────┘

Each target has one request at a time, and a worker has a bounded number of targets under way, few
of one subject. A target that is slow or dead holds a slot for the length of one request and then
rests, so nothing of anybody else waits for it. No transaction is open while a request is under way.

A worker that dies after a request and before it is recorded leaves an attempt that is made again:
each end arrives at least once, with the same `webhook-id`.
"""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from schema.accounts.vault import Unsealable
from schema.common import ids
from schema.common.errors import Unavailable
from schema.hub.url_fetcher import (
    Fetcher,
    FetchFailed,
    FetchRefused,
    FetchTimedOut,
    PostAnswer,
)
from schema.specs.inputs.webhook_url import WebhookUrl
from schema.workspaces import webhook_queue, webhooks
from schema.workspaces.tables import DeliveryError
from schema.workspaces.webhook_queue import DeliveryAttempt, RetryRules, TargetLease
from workers.context import Worker
from workers.loops.webhook_messages import message_id, parse_pause, sign_message, write_body

_SLOTS: Final = 32
"""Targets that a worker sends to at a time."""
_SLOTS_PER_SUBJECT: Final = 4
"""Targets of one subject that all workers together send to at a time."""
_REQUESTS_PER_LEASE: Final = 4
"""For how many requests that take as long as they may a target is leased."""
WEBHOOK_OUTCOMES: Final = ("delivered", "gone", *DeliveryError)
"""What may become of an attempt."""
_MAX_PAUSE: Final = timedelta(hours=1)
"""So long a target that is back may wait for what it has missed."""

log = structlog.stdlib.get_logger()


class WebhookLoop:
    """The targets that one worker is sending to."""

    def __init__(self, worker: Worker, tasks: TaskGroup, fetcher: Fetcher) -> None:
        self._worker = worker
        self._tasks = tasks
        self._fetcher = fetcher
        self._busy_slots = 0
        settings = worker.settings
        self._lease = settings.webhook_timeout * _REQUESTS_PER_LEASE
        self._rules = RetryRules(
            first_pause=settings.webhook_retry,
            max_pause=_MAX_PAUSE,
            give_up_after=settings.webhook_deadline,
        )

    async def send_due_webhooks(self) -> bool:
        """Begin to send to the targets that are due; true if there may be more, and a free slot."""
        free_slots = _SLOTS - self._busy_slots
        if free_slots == 0:
            return False
        async with self._worker.database.transaction() as tx:
            leases = await webhook_queue.lease_targets(
                tx, limit=free_slots, per_subject=_SLOTS_PER_SUBJECT, lease=self._lease
            )
        self._busy_slots += len(leases)
        for lease in leases:
            self._tasks.start_soon(self._serve_target, lease)
        return len(leases) == free_slots

    async def _serve_target(self, lease: TargetLease) -> None:
        release = partial(webhook_queue.release_target, lease=lease)
        try:
            # Of the lease, so much is left then that one more request fits in.
            with_time = anyio.current_time() + (self._lease / 2).total_seconds()
            goes_on = True
            while goes_on and anyio.current_time() < with_time:
                goes_on = not self._worker.stopping.is_set() and await self._send_next(lease)
            async with self._worker.database.transaction() as tx:
                await release(tx)
        except anyio.get_cancelled_exc_class():
            await self._worker.hand_back(release)
            raise
        except Unavailable as error:  # the lease will lapse
            log.warning("webhook.interrupted", error=str(error))
        except Exception:  # one target must not end the others; its lease will lapse
            log.exception("webhook.broken")
        finally:
            self._busy_slots -= 1
            self._worker.events.send.set()

    async def _send_next(self, lease: TargetLease) -> bool:
        """Send the next delivery of a target; false if none is due, or it was not taken."""
        database = self._worker.database
        async with database.transaction() as tx:
            attempt = await webhook_queue.begin_attempt(tx, lease, self._rules)
        if attempt is None:
            return False
        job = ids.format_handle(ids.HandleKind.JOB, attempt.job_id)
        with structlog.contextvars.bound_contextvars(job=job):
            answer = await self._post(attempt)
            async with database.transaction() as tx:
                if isinstance(answer, DeliveryError):
                    await webhook_queue.record_failure(tx, attempt, answer, self._rules)
                    outcome = str(answer)
                elif HTTPStatus(200) <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    await webhook_queue.record_delivered(tx, attempt, answer.status)
                    outcome = "delivered"
                elif answer.status == HTTPStatus.GONE:
                    await webhook_queue.record_gone(tx, attempt, answer.status)
                    outcome = "gone"
                else:
                    await webhook_queue.record_failure(
                        tx,
                        attempt,
                        DeliveryError.STATUS,
                        self._rules,
                        status=answer.status,
                        pause=parse_pause(answer.retry_after, now=attempt.attempted_at),
                    )
                    outcome = str(DeliveryError.STATUS)
            self._worker.activity.webhooks[outcome] += 1
            log.info("webhook.sent", outcome=outcome, attempts=attempt.attempts)
        return outcome == "delivered"

    async def _post(self, attempt: DeliveryAttempt) -> PostAnswer | DeliveryError:
        settings = self._worker.settings
        try:
            opened = [
                webhooks.open_target(
                    self._worker.vault,
                    sealed,
                    subject_id=attempt.subject_id,
                    target_id=attempt.target_id,
                )
                for sealed in attempt.sealed_secrets
            ]
            # Parsed anew each time: the operator may have withdrawn an origin since.
            url = WebhookUrl.parse(opened[0][0], settings.webhook_origins)
        except Unsealable:
            return DeliveryError.UNSEALABLE
        except ValueError:
            return DeliveryError.REFUSED
        body = write_body(attempt, str(settings.hub_url).rstrip("/"))
        headers = sign_message(
            message_id(attempt),
            body,
            [secret for _, secret in opened],
            sent_at=attempt.attempted_at,
        )
        try:
            return await self._fetcher.post(url, body, headers, timeout=settings.webhook_timeout)
        except FetchRefused:
            return DeliveryError.REFUSED
        except FetchTimedOut:
            return DeliveryError.TIMED_OUT
        except FetchFailed:
            return DeliveryError.UNREACHABLE
