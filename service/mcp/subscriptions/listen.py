"""Handler of `subscriptions/listen` (protocol 2026-07-28): streams changes to a client.

    acknowledgement ──▶ each task in its present state ──▶ each change ──▶ an empty result

The acknowledgement names only what belongs to the caller; foreign and unknown topics are left out
alike. A stream ends by itself: when none of its topics can change any more, when its token is no
longer accepted, and when the process is told to stop. Nothing is stored for a client that is away:
after it listens again, it has to read again.
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
from schema.jobs import queries as job_queries
from schema.jobs.monitoring import changes as job_changes
from schema.jobs.monitoring.changes import JobVersion
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
"""How many resources and tasks one stream may cover."""
_CREDENTIAL_CHECK_INTERVAL: Final = timedelta(seconds=30)
"""How often the credentials of a stream are verified; the verifier caches the answer for longer."""
_MIN_CHECK_INTERVAL: Final = timedelta(seconds=1)
_PAGE_KINDS: Final = frozenset({TopicKind.LOG, TopicKind.WORKSPACE})


class ListenFilter(SubscriptionFilter):
    """What a client wants to be notified about."""

    task_ids: list[str] | None = None


class ListenParams(RequestParams):
    """The parameters of a stream."""

    notifications: ListenFilter


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task in its present state; its parameters are no model, because `ttlMs` may be null."""

    method: Literal["notifications/tasks"] = "notifications/tasks"


class SubscriptionListener:
    """Serves streams, as a middleware: the handler of the SDK knows neither callers nor tasks."""

    def __init__(self, tasks: JobTasks) -> None:
        self._tasks = tasks

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Serve a stream, or advertise streams; pass every other request on."""
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
        job_ids = {topic.entity_id for topic in topics if topic.kind is not TopicKind.WORKSPACE}
        page_ids = {topic.entity_id for topic in topics if topic.kind in _PAGE_KINDS}
        async with app.wait_slots.acquire(
            caller.subject_id, duration=2 * _CREDENTIAL_CHECK_INTERVAL
        ) as renew_slot:
            with (
                app.watch.watch_jobs(caller.subject_id, job_ids) as job_watcher,
                app.watch.watch_pages(caller.subject_id, page_ids) as page_watcher,
            ):
                stream = _SubscriptionStream(
                    ctx, request_id, self._tasks, caller, job_watcher, page_watcher
                )
                await stream.start(topics)
                await stream.forward_changes(renew_slot)


@dataclass(frozen=True, slots=True)
class _JobSnapshot:
    """Jobs as they were just read, and the tasks of those that are topics as tasks."""

    statuses: Mapping[UUID, JobStatus]
    tasks: Mapping[UUID, dict[str, Any]]


class _SubscriptionStream:
    """One stream, from its acknowledgement to its end."""

    def __init__(
        self,
        ctx: ServerRequestContext[App, Any],
        request_id: RequestId,
        tasks: JobTasks,
        caller: Caller,
        job_watcher: JobWatcher,
        page_watcher: PageWatcher,
    ) -> None:
        self._app = ctx.lifespan_context
        self._session = ctx.session
        self._request_id = request_id
        self._tasks = tasks
        self._caller = caller
        self._job_watcher = job_watcher
        self._page_watcher = page_watcher
        self._topics: list[SubscriptionTopic] = []
        """The topics that can still change."""
        self._job_versions: dict[UUID, JobVersion] = {}

    async def start(self, topics: list[SubscriptionTopic]) -> None:
        """Acknowledge the topics of the caller, and send each task, which may have ended by now."""
        async with self._app.transaction(self._caller) as tx:
            digests = await job_changes.read_page_versions(
                tx, self._caller.subject_id, self._page_watcher.ids
            )
            snapshot = await self._read_jobs(tx, topics)
        self._page_watcher.set_seen(digests)
        own_ids = snapshot.statuses.keys() | digests.keys()
        self._topics = [topic for topic in topics if topic.entity_id in own_ids]
        await self._send_acknowledgement()
        await self._send_job_changes(snapshot, snapshot.statuses.keys(), is_first=True)

    async def forward_changes(self, renew_slot: RenewSlot) -> None:
        """Send changes until the stream ends; return at once if no topic can change."""
        if not self._topics:
            return
        async with anyio.create_task_group() as tasks:

            async def end_after(work: Callable[[], Awaitable[None]]) -> None:
                await work()
                tasks.cancel_scope.cancel()

            tasks.start_soon(self._forward_page_changes)
            tasks.start_soon(end_after, self._forward_job_changes)
            tasks.start_soon(end_after, lambda: self._renew_while_authorized(renew_slot))
            tasks.start_soon(end_after, self._app.watch.wait_until_stopped)

    async def _forward_job_changes(self) -> None:
        while self._topics:
            changed_ids = await self._job_watcher.wait_for_change()
            if self._app.watch.is_stopping:
                return
            async with self._app.database.as_subject(self._caller.subject_id) as (tx, _):
                snapshot = await self._read_jobs(
                    tx, [topic for topic in self._topics if topic.entity_id in changed_ids]
                )
            await self._send_job_changes(snapshot, changed_ids)

    async def _forward_page_changes(self) -> None:
        while True:
            changed_ids = await self._page_watcher.wait_for_change()
            for topic in self._topics:
                if topic.entity_id in changed_ids and topic.kind in _PAGE_KINDS:
                    await self._send_resource_updated(topic)

    async def _renew_while_authorized(self, renew_slot: RenewSlot) -> None:
        """Renew the slot, and return as soon as the credentials are no longer accepted."""
        reauthenticate = REAUTHENTICATE.get()
        caller = self._caller
        while True:
            time_left = (
                caller.expires_at - datetime.now(UTC)
                if caller.expires_at
                else _CREDENTIAL_CHECK_INTERVAL
            )
            await anyio.sleep(
                max(_MIN_CHECK_INTERVAL, min(time_left, _CREDENTIAL_CHECK_INTERVAL)).total_seconds()
            )
            try:
                caller = await reauthenticate() if reauthenticate is not None else caller
            except (Unauthenticated, Denied):
                return
            except Unavailable:
                pass  # an outage is no refusal
            if caller.subject_id != self._caller.subject_id:
                return
            await renew_slot()

    async def _read_jobs(
        self, tx: Transaction, selected_topics: Iterable[SubscriptionTopic]
    ) -> _JobSnapshot:
        task_job_ids = {
            topic.entity_id for topic in selected_topics if topic.kind is TopicKind.TASK
        }
        job_ids = [
            topic.entity_id for topic in selected_topics if topic.kind is not TopicKind.WORKSPACE
        ]
        statuses = (
            await job_queries.get_job_statuses(tx, self._caller.subject_id, job_ids)
            if job_ids
            else {}
        )
        task_statuses = [status for job_id, status in statuses.items() if job_id in task_job_ids]
        tasks = await self._tasks.build_tasks(tx, self._app, task_statuses)
        tasks_by_job = {
            status.id: task.to_detailed_result()
            for status, task in zip(task_statuses, tasks, strict=True)
        }
        return _JobSnapshot(statuses, tasks_by_job)

    async def _send_job_changes(
        self, snapshot: _JobSnapshot, job_ids: Iterable[UUID], *, is_first: bool = False
    ) -> None:
        """Send notifications of jobs that were read, and drop topics that cannot change any more.

        Args:
            snapshot: the jobs as they were just read; a job that is missing no longer exists.
            job_ids: the jobs that were read.
            is_first: whether only tasks are sent: a client reads resources by itself at first.
        """
        read_ids = frozenset(job_ids)
        topics = [topic for topic in self._topics if topic.entity_id in read_ids]
        final_topics = [
            topic for topic in topics if topic.is_final(snapshot.statuses.get(topic.entity_id))
        ]
        self._topics = [topic for topic in self._topics if topic not in final_topics]
        open_ids = {topic.entity_id for topic in self._topics}
        versions = self._job_versions | {
            job_id: JobVersion(status.version, status.hold)
            for job_id, status in snapshot.statuses.items()
        }
        self._job_versions = {
            job_id: version for job_id, version in versions.items() if job_id in open_ids
        }
        self._job_watcher.set_seen(self._job_versions)
        for topic in topics:
            is_task = topic.kind is TopicKind.TASK
            if task := snapshot.tasks.get(topic.entity_id) if is_task else None:
                await self._send_notification(
                    TaskNotification(params={**task, "_meta": self._meta})
                )
            is_final_log = topic.kind is TopicKind.LOG and topic in final_topics
            if not is_first and (topic.kind is TopicKind.JOB or is_final_log):
                await self._send_resource_updated(topic)

    async def _send_acknowledgement(self) -> None:
        accepted = SubscriptionFilter()
        uris = [topic.text for topic in self._topics if topic.kind is not TopicKind.TASK]
        task_ids = [topic.text for topic in self._topics if topic.kind is TopicKind.TASK]
        if uris:
            accepted = SubscriptionFilter(resource_subscriptions=uris)
        if task_ids:
            accepted = SubscriptionFilter.model_validate(
                {**accepted.model_dump(by_alias=True, exclude_none=True), "taskIds": task_ids}
            )
        params = SubscriptionsAcknowledgedNotificationParams(
            notifications=accepted, _meta=self._meta
        )
        await self._send_notification(SubscriptionsAcknowledgedNotification(params=params))

    async def _send_resource_updated(self, topic: SubscriptionTopic) -> None:
        params = ResourceUpdatedNotificationParams(uri=topic.text, _meta=self._meta)
        await self._send_notification(ResourceUpdatedNotification(params=params))

    async def _send_notification(self, notification: ServerNotification | TaskNotification) -> None:
        # The SDK's type lists the notifications of the core protocol; it sends any other as well.
        server_notification = cast("ServerNotification", notification)
        await self._session.send_notification(
            server_notification, related_request_id=self._request_id
        )

    @property
    def _meta(self) -> dict[str, Any]:
        return {SUBSCRIPTION_ID_META_KEY: self._request_id}


def _parse_filter(listen_filter: ListenFilter) -> list[SubscriptionTopic]:
    """Parse the topics of a filter; those that cannot be parsed are left out, like unknown ones.

    Raises:
        Invalid: there are more than one stream may cover.
    """
    uris = dict.fromkeys(listen_filter.resource_subscriptions or ())
    task_ids = dict.fromkeys(listen_filter.task_ids or ())
    if len(uris) + len(task_ids) > _MAX_TOPICS:
        raise Invalid(
            f"One stream tells of at most {_MAX_TOPICS} resources and tasks; open another."
        )
    topics = [*map(parse_resource_uri, uris), *map(parse_task_id, task_ids)]
    return [topic for topic in topics if topic is not None]


def _advertise_subscribe(discovery: HandlerResult) -> HandlerResult:
    """Add the capability to subscribe to resources: the SDK does so for its own handler only."""
    if not isinstance(discovery, dict):
        return discovery
    capabilities = discovery["capabilities"]
    resources = {**capabilities["resources"], "subscribe": True}
    return {**discovery, "capabilities": {**capabilities, "resources": resources}}
