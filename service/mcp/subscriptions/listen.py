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
from schema.jobs.changes import Mark
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.mcp.dependencies import current_caller
from service.mcp.subscriptions.topics import Address, Topic, read_task, read_uri
from service.mcp.tasks.extension import TASKS
from service.mcp.tasks.job_tasks import JobTasks
from service.mcp.tool import answering
from service.runtime.context import STILL_CALLING, App
from service.runtime.job_watch import Changes
from service.runtime.resource_watch import Follower
from service.runtime.wait_slots import Keep
from service.workspaces.views import NEWEST

_LISTEN: Final = "subscriptions/listen"
_DISCOVER: Final = "server/discover"
_MOST: Final = 100
"""How much one stream may tell of."""
_LOOK_AGAIN: Final = timedelta(seconds=30)
"""How often the credentials of a stream are looked at; what is believed of them is kept longer."""
_SOON: Final = timedelta(seconds=1)


class Wanted(SubscriptionFilter):
    """What a client asks to hear of."""

    task_ids: list[str] | None = None


class ListenParams(RequestParams):
    """What a stream is opened with."""

    notifications: Wanted


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task as it stands, whose parameters are not a model: `ttlMs` may be null."""

    method: Literal["notifications/tasks"] = "notifications/tasks"


class Listening:
    """Serves streams; a middleware, as the SDK's own handler knows neither callers nor tasks."""

    def __init__(self, tasks: JobTasks) -> None:
        self._tasks = tasks

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Serve a stream, and say that there are any; all else is passed on."""
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or ctx.request_id is None:
            return await call_next(ctx)
        if ctx.method == _DISCOVER:
            return _claim(await call_next(ctx))
        if ctx.method != _LISTEN:
            return await call_next(ctx)
        params = ListenParams.model_validate(ctx.params or {}, by_name=False)
        if params.notifications.task_ids:
            require_client_extension(ctx, TASKS)
        with answering():
            await self._listen(ctx, ctx.request_id, _addresses(params.notifications))
        return {"resultType": "complete", "_meta": {SUBSCRIPTION_ID_META_KEY: ctx.request_id}}

    async def _listen(
        self, ctx: ServerRequestContext[App, Any], name: RequestId, wanted: list[Address]
    ) -> None:
        app, caller = ctx.lifespan_context, await current_caller()
        jobs = {each.identity for each in wanted if each.topic is not Topic.WORKSPACE}
        pages = {each.identity for each in wanted if each.topic in (Topic.LOG, Topic.WORKSPACE)}
        async with app.turns.one(caller.subject_id, within=2 * _LOOK_AGAIN) as keep:
            with (
                app.waiting.on(caller.subject_id, jobs) as changes,
                app.following.on(caller.subject_id, pages) as follower,
            ):
                stream = _Stream(ctx, name, self._tasks, caller, changes, follower)
                await stream.begin(wanted)
                await stream.last(keep)


@dataclass(frozen=True, slots=True)
class _Found:
    """Jobs as they were just read; the tasks of those that are told of as such."""

    statuses: Mapping[UUID, JobStatus]
    tasks: Mapping[UUID, dict[str, Any]]


class _Stream:
    """One stream, from its ack to its end."""

    def __init__(
        self,
        ctx: ServerRequestContext[App, Any],
        name: RequestId,
        tasks: JobTasks,
        caller: Caller,
        changes: Changes,
        follower: Follower,
    ) -> None:
        self._app = ctx.lifespan_context
        self._session = ctx.session
        self._name = name
        self._tasks = tasks
        self._caller = caller
        self._changes = changes
        self._follower = follower
        self._addresses: list[Address] = []
        """What may yet have to be told of."""
        self._marks: dict[UUID, Mark] = {}

    async def begin(self, wanted: list[Address]) -> None:
        """Acknowledge what is the caller's, and show each task, which may be over by now."""
        async with self._app.transaction(self._caller) as tx:
            seen = await job_changes.pages(
                tx, self._caller.subject_id, self._follower.followed, newest=NEWEST
            )
            found = await self._read(tx, wanted)
        self._follower.saw(seen)
        there = found.statuses.keys() | seen.keys()
        self._addresses = [each for each in wanted if each.identity in there]
        await self._acknowledge()
        await self._tell(found, found.statuses.keys(), at_first=True)

    async def last(self, keep: Keep) -> None:
        """Tell of what changes, for as long as it may, to whom it may concern."""
        if not self._addresses:
            return
        async with anyio.create_task_group() as telling:

            async def until(over: Callable[[], Awaitable[None]]) -> None:
                await over()
                telling.cancel_scope.cancel()

            telling.start_soon(self._tell_of_pages)
            telling.start_soon(until, self._tell_of_jobs)
            telling.start_soon(until, lambda: self._until_disowned(keep))
            telling.start_soon(until, self._app.waiting.until_stopped)

    async def _tell_of_jobs(self) -> None:
        while self._addresses:
            told = await self._changes.next()
            if self._app.waiting.stopping:
                return
            async with self._app.ground.acting_for(self._caller.subject_id) as (tx, _):
                found = await self._read(
                    tx, [each for each in self._addresses if each.identity in told]
                )
            await self._tell(found, told)

    async def _tell_of_pages(self) -> None:
        while True:
            told = await self._follower.next()
            for each in self._addresses:
                if each.identity in told and each.topic in (Topic.LOG, Topic.WORKSPACE):
                    await self._updated(each)

    async def _until_disowned(self, keep: Keep) -> None:
        """Keep the turn, as long as those who say whose call this is stand by it."""
        vouch = STILL_CALLING.get()
        caller = self._caller
        while True:
            left = caller.expires_at - datetime.now(UTC) if caller.expires_at else _LOOK_AGAIN
            await anyio.sleep(max(_SOON, min(left, _LOOK_AGAIN)).total_seconds())
            try:
                caller = await vouch() if vouch is not None else caller
            except (Unauthenticated, Denied):
                return
            except Unavailable:
                pass  # nobody has said no
            if caller.subject_id != self._caller.subject_id:
                return
            await keep()

    async def _read(self, tx: Transaction, addresses: Iterable[Address]) -> _Found:
        topics = {each.identity: Topic.TASK for each in addresses if each.topic is Topic.TASK}
        ids = [each.identity for each in addresses if each.topic is not Topic.WORKSPACE]
        statuses = await job_queries.statuses(tx, self._caller.subject_id, ids) if ids else {}
        shown = [status for job_id, status in statuses.items() if job_id in topics]
        tasks = await self._tasks.of(tx, self._app, shown)
        by_job = {status.id: task.detailed() for status, task in zip(shown, tasks, strict=True)}
        return _Found(statuses, by_job)

    async def _tell(self, found: _Found, told: Iterable[UUID], *, at_first: bool = False) -> None:
        """Tell of jobs that were read again, and let go of what will not change any more.

        Resources are not told of at first: who wants to know how they are reads them.
        """
        looked_at = frozenset(told)
        due = [each for each in self._addresses if each.identity in looked_at]
        over = [each for each in due if each.is_over(found.statuses.get(each.identity))]
        self._addresses = [each for each in self._addresses if each not in over]
        open_jobs = {each.identity for each in self._addresses}
        read = {job: Mark(it.version, it.hold) for job, it in found.statuses.items()}
        self._marks = {job: m for job, m in (self._marks | read).items() if job in open_jobs}
        self._changes.saw(self._marks)
        for each in due:
            if task := found.tasks.get(each.identity) if each.topic is Topic.TASK else None:
                await self._send(TaskNotification(params={**task, "_meta": self._meta}))
            ended = each.topic is Topic.LOG and each in over
            if not at_first and (each.topic is Topic.JOB or ended):
                await self._updated(each)

    async def _acknowledge(self) -> None:
        honoured = SubscriptionFilter()
        uris = [each.text for each in self._addresses if each.topic is not Topic.TASK]
        tasks = [each.text for each in self._addresses if each.topic is Topic.TASK]
        if uris:
            honoured = SubscriptionFilter(resource_subscriptions=uris)
        if tasks:
            honoured = SubscriptionFilter.model_validate(
                {**honoured.model_dump(by_alias=True, exclude_none=True), "taskIds": tasks}
            )
        params = SubscriptionsAcknowledgedNotificationParams(
            notifications=honoured, _meta=self._meta
        )
        await self._send(SubscriptionsAcknowledgedNotification(params=params))

    async def _updated(self, address: Address) -> None:
        params = ResourceUpdatedNotificationParams(uri=address.text, _meta=self._meta)
        await self._send(ResourceUpdatedNotification(params=params))

    async def _send(self, notification: ServerNotification | TaskNotification) -> None:
        # The SDK's type is what the core knows; it sends whatever is a notification.
        known = cast("ServerNotification", notification)
        await self._session.send_notification(known, related_request_id=self._name)

    @property
    def _meta(self) -> dict[str, Any]:
        return {SUBSCRIPTION_ID_META_KEY: self._name}


def _addresses(wanted: Wanted) -> list[Address]:
    """Read what can be read; what cannot is nobody's.

    Raises:
        Invalid: it is more than one stream may tell of.
    """
    uris = dict.fromkeys(wanted.resource_subscriptions or ())
    tasks = dict.fromkeys(wanted.task_ids or ())
    if len(uris) + len(tasks) > _MOST:
        raise Invalid(f"One stream tells of at most {_MOST} resources and tasks; open another.")
    read = [*map(read_uri, uris), *map(read_task, tasks)]
    return [each for each in read if each is not None]


def _claim(discovered: HandlerResult) -> HandlerResult:
    """Say that resources can be listened to; the SDK says so only of its own handler."""
    if not isinstance(discovered, dict):
        return discovered
    able = discovered["capabilities"]
    return {
        **discovered,
        "capabilities": {**able, "resources": {**able["resources"], "subscribe": True}},
    }
