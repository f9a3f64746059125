"""What does a client hear of while it listens? `subscriptions/listen`, of the revision 2026-07-28.

    ack ──▶ each task as it stands ──▶ what changes, when it changes ──▶ an empty result

The ack names what is the caller's; the rest is left out, whether it is somebody else's or nobody's.
A stream ends by itself: when nothing of it can change any more, when the token it came with is not
accepted any more, and when the process is told to stop. Nothing is kept for who was not there, so
that who listens again reads again.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    Notification,
    RequestId,
    RequestParams,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    ServerNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from schema.common.errors import Denied, Invalid, Unauthenticated, Unavailable
from schema.db.database import Transaction
from schema.jobs import changes as job_changes
from schema.jobs import queries as job_queries
from schema.jobs.changes import JobVersion
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.mcp.dependencies import current_caller
from service.mcp.subscriptions.topics import (
    SubscriptionTopic,
    TopicKind,
    parse_resource_uri,
    parse_task_id,
)
from service.mcp.tasks.extension import TASKS_EXTENSION
from service.mcp.tasks.job_tasks import JobTasks
from service.mcp.tool import raise_mcp_errors
from service.runtime.context import REAUTHENTICATE, App
from service.runtime.wait_slots import RenewSlot
from service.runtime.watch import JobWatcher, PageWatcher

_LISTEN_METHOD: Final = "subscriptions/listen"
_DISCOVER_METHOD: Final = "server/discover"
_MAX_TOPICS: Final = 100
"""How much one stream may tell of."""
_CREDENTIAL_CHECK_INTERVAL: Final = timedelta(seconds=30)
"""How often the credentials of a stream are looked at; what is believed of them is kept longer."""
_MIN_CHECK_INTERVAL: Final = timedelta(seconds=1)


class ListenFilter(SubscriptionFilter):
    """What a client asks to hear of."""

    task_ids: list[str] | None = None


class ListenParams(RequestParams):
    """What a stream is opened with."""

    notifications: ListenFilter


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task as it stands, whose parameters are not a model: `ttlMs` may be null."""

    method: Literal["notifications/tasks"] = "notifications/tasks"


class SubscriptionListener:
    """Serves streams; a middleware, as the SDK's own handler knows neither callers nor tasks."""

    def __init__(self, tasks: JobTasks) -> None:
        self._tasks = tasks

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Serve a stream, and say that there are any; all else is passed on."""
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or ctx.request_id is None:
            return await call_next(ctx)
        if ctx.method == _DISCOVER_METHOD:
            return _advertise_subscribe(await call_next(ctx))
        if ctx.method != _LISTEN_METHOD:
            return await call_next(ctx)
        params = ListenParams.model_validate(ctx.params or {}, by_name=False)
        if params.notifications.task_ids:
            require_client_extension(ctx, TASKS_EXTENSION)
        with raise_mcp_errors():
            await self._serve_stream(ctx, ctx.request_id, _parse_filter(params.notifications))
        return {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_META_KEY: ctx.request_id}}

    async def _serve_stream(
        self,
        ctx: ServerRequestContext[App, Any],
        request_id: RequestId,
        topics: list[SubscriptionTopic],
    ) -> None:
        app, caller = ctx.lifespan_context, await current_caller()
        jobs = {each.entity_id for each in topics if each.kind is not TopicKind.WORKSPACE}
        pages = {
            each.entity_id for each in topics if each.kind in (TopicKind.LOG, TopicKind.WORKSPACE)
        }
        async with app.wait_slots.acquire(
            caller.subject_id, duration=2 * _CREDENTIAL_CHECK_INTERVAL
        ) as keep:
            with (
                app.watch.watch_jobs(caller.subject_id, jobs) as changes,
                app.watch.watch_pages(caller.subject_id, pages) as follower,
            ):
                stream = _SubscriptionStream(
                    ctx, request_id, self._tasks, caller, changes, follower
                )
                await stream.start(topics)
                await stream.forward_changes(keep)


@dataclass(frozen=True, slots=True)
class _JobSnapshot:
    """Jobs as they were just read; the tasks of those that are told of as such."""

    statuses: Mapping[UUID, JobStatus]
    tasks: Mapping[UUID, dict[str, Any]]


class _SubscriptionStream:
    """One stream, from its ack to its end."""

    def __init__(
        self,
        ctx: ServerRequestContext[App, Any],
        request_id: RequestId,
        tasks: JobTasks,
        caller: Caller,
        changes: JobWatcher,
        follower: PageWatcher,
    ) -> None:
        self._app = ctx.lifespan_context
        self._session = ctx.session
        self._request_id = request_id
        self._tasks = tasks
        self._caller = caller
        self._changes = changes
        self._follower = follower
        self._topics: list[SubscriptionTopic] = []
        """What may yet have to be told of."""
        self._job_versions: dict[UUID, JobVersion] = {}

    async def start(self, topics: list[SubscriptionTopic]) -> None:
        """Acknowledge what is the caller's, and show each task, which may be over by now."""
        async with self._app.transaction(self._caller) as tx:
            seen = await job_changes.read_page_versions(
                tx, self._caller.subject_id, self._follower.ids
            )
            found = await self._read_jobs(tx, topics)
        self._follower.set_seen(seen)
        there = found.statuses.keys() | seen.keys()
        self._topics = [each for each in topics if each.entity_id in there]
        await self._send_acknowledgement()
        await self._send_job_changes(found, found.statuses.keys(), is_first=True)

    async def forward_changes(self, renew_slot: RenewSlot) -> None:
        """Tell of what changes, for as long as it may, to whom it may concern."""
        if not self._topics:
            return
        async with anyio.create_task_group() as telling:

            async def until(over: Callable[[], Awaitable[None]]) -> None:
                await over()
                telling.cancel_scope.cancel()

            telling.start_soon(self._forward_page_changes)
            telling.start_soon(until, self._forward_job_changes)
            telling.start_soon(until, lambda: self._renew_while_authorized(renew_slot))
            telling.start_soon(until, self._app.watch.wait_until_stopped)

    async def _forward_job_changes(self) -> None:
        while self._topics:
            told = await self._changes.wait_for_change()
            if self._app.watch.is_stopping:
                return
            async with self._app.database.as_subject(self._caller.subject_id) as (tx, _):
                found = await self._read_jobs(
                    tx, [each for each in self._topics if each.entity_id in told]
                )
            await self._send_job_changes(found, told)

    async def _forward_page_changes(self) -> None:
        while True:
            told = await self._follower.wait_for_change()
            for each in self._topics:
                if each.entity_id in told and each.kind in (TopicKind.LOG, TopicKind.WORKSPACE):
                    await self._send_resource_updated(each)

    async def _renew_while_authorized(self, renew_slot: RenewSlot) -> None:
        """Keep the turn, as long as those who say whose call this is stand by it."""
        vouch = REAUTHENTICATE.get()
        caller = self._caller
        while True:
            left = (
                caller.expires_at - datetime.now(UTC)
                if caller.expires_at
                else _CREDENTIAL_CHECK_INTERVAL
            )
            await anyio.sleep(
                max(_MIN_CHECK_INTERVAL, min(left, _CREDENTIAL_CHECK_INTERVAL)).total_seconds()
            )
            try:
                caller = await vouch() if vouch is not None else caller
            except (Unauthenticated, Denied):
                return
            except Unavailable:
                pass  # nobody has said no
            if caller.subject_id != self._caller.subject_id:
                return
            await renew_slot()

    async def _read_jobs(
        self, tx: Transaction, selected_topics: Iterable[SubscriptionTopic]
    ) -> _JobSnapshot:
        topics = {
            each.entity_id: TopicKind.TASK
            for each in selected_topics
            if each.kind is TopicKind.TASK
        }
        ids = [each.entity_id for each in selected_topics if each.kind is not TopicKind.WORKSPACE]
        statuses = (
            await job_queries.get_job_statuses(tx, self._caller.subject_id, ids) if ids else {}
        )
        shown = [status for job_id, status in statuses.items() if job_id in topics]
        tasks = await self._tasks.build_tasks(tx, self._app, shown)
        by_job = {
            status.id: task.to_detailed_result() for status, task in zip(shown, tasks, strict=True)
        }
        return _JobSnapshot(statuses, by_job)

    async def _send_job_changes(
        self, snapshot: _JobSnapshot, job_ids: Iterable[UUID], *, is_first: bool = False
    ) -> None:
        """Tell of jobs that were read again, and let go of what will not change any more.

        Resources are not told of at first: who wants to know how they are reads them.
        """
        looked_at = frozenset(job_ids)
        due = [each for each in self._topics if each.entity_id in looked_at]
        over = [each for each in due if each.is_final(snapshot.statuses.get(each.entity_id))]
        self._topics = [each for each in self._topics if each not in over]
        open_jobs = {each.entity_id for each in self._topics}
        read = {job: JobVersion(it.version, it.hold) for job, it in snapshot.statuses.items()}
        self._job_versions = {
            job: m for job, m in (self._job_versions | read).items() if job in open_jobs
        }
        self._changes.set_seen(self._job_versions)
        for each in due:
            if task := snapshot.tasks.get(each.entity_id) if each.kind is TopicKind.TASK else None:
                await self._send_notification(
                    TaskNotification(params={**task, "_meta": self._meta})
                )
            ended = each.kind is TopicKind.LOG and each in over
            if not is_first and (each.kind is TopicKind.JOB or ended):
                await self._send_resource_updated(each)

    async def _send_acknowledgement(self) -> None:
        honoured = SubscriptionFilter()
        uris = [each.text for each in self._topics if each.kind is not TopicKind.TASK]
        tasks = [each.text for each in self._topics if each.kind is TopicKind.TASK]
        if uris:
            honoured = SubscriptionFilter(resource_subscriptions=uris)
        if tasks:
            honoured = SubscriptionFilter.model_validate(
                {**honoured.model_dump(by_alias=True, exclude_none=True), "taskIds": tasks}
            )
        params = SubscriptionsAcknowledgedNotificationParams(
            notifications=honoured, _meta=self._meta
        )
        await self._send_notification(SubscriptionsAcknowledgedNotification(params=params))

    async def _send_resource_updated(self, topic: SubscriptionTopic) -> None:
        params = ResourceUpdatedNotificationParams(uri=topic.text, _meta=self._meta)
        await self._send_notification(ResourceUpdatedNotification(params=params))

    async def _send_notification(self, notification: ServerNotification | TaskNotification) -> None:
        # The SDK's type is what the core knows; it sends whatever is a notification.
        known = cast("ServerNotification", notification)
        await self._session.send_notification(known, related_request_id=self._request_id)

    @property
    def _meta(self) -> dict[str, Any]:
        return {SUBSCRIPTION_ID_META_KEY: self._request_id}


def _parse_filter(listen_filter: ListenFilter) -> list[SubscriptionTopic]:
    """Read what can be read; what cannot is nobody's.

    Raises:
        Invalid: it is more than one stream may tell of.
    """
    uris = dict.fromkeys(listen_filter.resource_subscriptions or ())
    tasks = dict.fromkeys(listen_filter.task_ids or ())
    if len(uris) + len(tasks) > _MAX_TOPICS:
        raise Invalid(
            f"One stream tells of at most {_MAX_TOPICS} resources and tasks; open another."
        )
    read = [*map(parse_resource_uri, uris), *map(parse_task_id, tasks)]
    return [each for each in read if each is not None]


def _advertise_subscribe(discovered: HandlerResult) -> HandlerResult:
    """Say that resources can be listened to; the SDK says so only of its own handler."""
    if not isinstance(discovered, dict):
        return discovered
    able = discovered["capabilities"]
    return {
        **discovered,
        "capabilities": {**able, "resources": {**able["resources"], "subscribe": True}},
    }
