"""What may be asked about jobs over HTTP, and by whom."""

from collections.abc import Callable
from http import HTTPStatus
from itertools import dropwhile
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.local.hub_emulator.current_user import hub_url
from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.jobs.bucket_mounts import Mounts
from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.schemas import JobRequest, NewLabels
from service.local.hub_emulator.jobs.store import Jobs, LocalJob
from service.local.hub_emulator.jobs.streams import log_events, metric_events, stage_events
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import LocalUser, Namespace, Permission

_PAGE: Final = 20
_EVENTS: Final = "text/event-stream"


class JobRoutes:
    """The endpoints of the Jobs API that take a token."""

    def __init__(self, jobs: Jobs, mounts: Mounts) -> None:
        self._jobs = jobs
        self._mounts = mounts

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Create a job, if the caller may and can pay."""
        namespace = may_write(request, user)
        asked = await read_body(request, JobRequest)
        return self._start(LocalJob(asked, namespace, user, hub_url(request)))

    async def duplicate(self, request: Request, user: LocalUser) -> Response:
        """Run a job once more; labels are copied, as they are on the Hub."""
        job = self._job(request, user)
        namespace = may_write(request, user)
        return self._start(LocalJob(job.request, namespace, user, hub_url(request), copy_of=job.id))

    async def page(self, request: Request, user: LocalUser) -> Response:
        """List a page of jobs, newest first, and say where the next page is."""
        jobs = self._jobs.of(may_read(request, user).name)
        if cursor := request.query_params.get("cursor"):
            # Before anything is filtered: the job it names may have left the filter since.
            jobs = list(dropwhile(lambda job: job.id != cursor, jobs))[1:]
        chosen = list(filter(_filter(request), jobs))
        headers: dict[str, str] = {}
        if len(chosen) > _PAGE:
            url = request.url.include_query_params(cursor=chosen[_PAGE - 1].id)
            headers["link"] = f'<{url}>; rel="next"'
        return JSONResponse([job.described() for job in chosen[:_PAGE]], headers=headers)

    async def count(self, request: Request, user: LocalUser) -> Response:
        """Count jobs."""
        jobs = self._jobs.of(may_read(request, user).name)
        return JSONResponse({"count": sum(map(_filter(request), jobs))})

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe one job."""
        return JSONResponse(self._job(request, user).described())

    async def cancel(self, request: Request, user: LocalUser) -> Response:
        """Stop one job; the answer comes when nothing of it runs."""
        job = self._job(request, user)
        may_write(request, user)
        await self._jobs.cancel(job)
        return JSONResponse(job.described())

    async def relabel(self, request: Request, user: LocalUser) -> Response:
        """Replace all labels of a job."""
        job = self._job(request, user)
        may_write(request, user)
        new = await read_body(request, NewLabels)
        job.request = job.request.model_copy(update={"labels": new.labels})
        return JSONResponse(job.described())

    async def logs(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's log from its beginning to its end."""
        job = self._job(request, user)
        tail = request.query_params.get("tail")
        if tail is not None and not (tail.isascii() and tail.isdigit()):
            raise Refusal(HTTPStatus.BAD_REQUEST, "tail: not a number of lines")
        stream = log_events(job, tail=None if tail is None else int(tail))
        return StreamingResponse(stream, media_type=_EVENTS)

    async def events(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's stages."""
        return StreamingResponse(stage_events(self._job(request, user)), media_type=_EVENTS)

    async def metrics(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's metrics while it has any."""
        job = self._job(request, user)
        if job.is_over:
            raise Refusal(HTTPStatus.NOT_ACCEPTABLE, "Job is not running")
        return StreamingResponse(metric_events(job), media_type=_EVENTS)

    async def check(self, request: Request, user: LocalUser) -> Response:
        """Say whether the caller may read or write in a namespace, or one job."""
        if "job" in request.path_params:
            self._job(request, user)
        match request.path_params["access"]:
            case "read":
                namespace = may_read(request, user)
            case "write":
                namespace = may_write(request, user)
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, "Not Found")
        return JSONResponse(
            {
                "namespace": {"id": namespace.id, "name": namespace.name},
                "user": {"id": user.id, "name": user.name},
            }
        )

    def _start(self, job: LocalJob) -> Response:
        if not job.creator.pays:
            raise Refusal(
                HTTPStatus.PAYMENT_REQUIRED,
                "Pre-paid credit balance is insufficient - add more credits to your account to "
                "use Jobs.",
            )
        self._mounts.expect_allowed(job.request.volumes or [], job.creator)
        self._jobs.start(job)
        return JSONResponse(job.described())

    def _job(self, request: Request, user: LocalUser) -> LocalJob:
        job = None
        # A foreign job and an unknown one are the same to a stranger.
        if user.namespace(request.path_params["namespace"]):
            namespace = may_read(request, user)
            job = self._jobs.get(namespace.name, request.path_params["job"])
        if job is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "Job not found")
        return job


async def hardware(_: Request) -> Response:
    """List what a job may ask for, to anybody."""
    return JSONResponse([flavor.described() for flavor in FLAVORS.values()])


def _filter(request: Request) -> Callable[[LocalJob], bool]:
    stages = {stage.upper() for stage in request.query_params.getlist("stage")}
    wanted = [label.partition("=") for label in request.query_params.getlist("label")]
    if not all(equals for _, equals, _ in wanted):
        raise Refusal(HTTPStatus.BAD_REQUEST, "label: not of the form key=value")

    def chosen(job: LocalJob) -> bool:
        labels: dict[str, Any] = job.request.labels
        return (not stages or job.stage in stages) and all(
            labels.get(name) == value for name, _, value in wanted
        )

    return chosen


def may_read(request: Request, user: LocalUser) -> Namespace:
    """Return the namespace that is asked about, if the caller may look into it."""
    return _namespace(request, user, Permission.READ_JOBS)


def may_write(request: Request, user: LocalUser) -> Namespace:
    """Return the namespace that is asked about, if the caller may start jobs there."""
    return _namespace(request, user, Permission.WRITE_JOBS)


def _namespace(request: Request, user: LocalUser, permission: Permission) -> Namespace:
    name = request.path_params["namespace"]
    namespace = user.namespace(name)
    if namespace is None or not user.may(permission):
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "You don't have the required permissions to complete this action on namespace "
            f"{name}, missing permissions: {permission}",
        )
    return namespace
