"""Endpoints of the Jobs API, and who may call them."""

from collections.abc import Callable
from http import HTTPStatus
from itertools import dropwhile
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub_emulator.current_user import get_hub_url, with_current_user
from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.jobs.bucket_mounts import BucketMounts
from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.schemas import JobRequest, NewLabels
from service.local.hub_emulator.jobs.store import JobStore, LocalJob
from service.local.hub_emulator.jobs.streams import (
    stream_log_events,
    stream_metric_events,
    stream_stage_events,
)
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.shared.pagination import next_page_headers
from service.local.hub_emulator.users import LocalUser, Namespace, Permission

_PAGE_SIZE: Final = 20
_EVENT_STREAM_TYPE: Final = "text/event-stream"


class JobRoutes:
    """The endpoints of the Jobs API."""

    def __init__(self, jobs: JobStore, mounts: BucketMounts) -> None:
        self._jobs = jobs
        self._mounts = mounts

    def routes(self) -> list[Route]:
        """Return the routes; the list of hardware is the only one that needs no token."""
        namespace = "/api/jobs/{namespace}"
        job = f"{namespace}/{{job}}"
        post, check_access = ["POST"], with_current_user(self.check_access)
        return [
            Route("/api/jobs/hardware", list_hardware),
            Route(namespace, with_current_user(self.create), methods=post),
            Route(namespace, with_current_user(self.list_page)),
            Route(f"{namespace}/count", with_current_user(self.count)),
            Route(f"{namespace}/auth-check/{{access}}", check_access, methods=post),
            Route(job, with_current_user(self.inspect)),
            Route(f"{job}/auth-check/{{access}}", check_access, methods=post),
            Route(f"{job}/cancel", with_current_user(self.cancel), methods=post),
            Route(f"{job}/duplicate", with_current_user(self.duplicate), methods=post),
            Route(f"{job}/labels", with_current_user(self.replace_labels), methods=["PUT"]),
            Route(f"{job}/logs", with_current_user(self.stream_logs)),
            Route(f"{job}/events", with_current_user(self.stream_events)),
            Route(f"{job}/metrics", with_current_user(self.stream_metrics)),
        ]

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Create a job, if the user may and can pay."""
        namespace = require_writable_namespace(request, user)
        body = await read_body(request, JobRequest)
        return self._start(LocalJob(body, namespace, user, get_hub_url(request)))

    async def duplicate(self, request: Request, user: LocalUser) -> Response:
        """Create a job like an earlier one; as on the Hub its labels are copied."""
        job = self._require_job(request, user)
        namespace = require_writable_namespace(request, user)
        return self._start(
            LocalJob(job.request, namespace, user, get_hub_url(request), duplicate_of=job.id)
        )

    async def list_page(self, request: Request, user: LocalUser) -> Response:
        """List a page of jobs, newest first; the cursor is the last job of the page before."""
        jobs = self._jobs.list_by_namespace(require_readable_namespace(request, user).name)
        if cursor := request.query_params.get("cursor"):
            # Before the filter: the job that the cursor names may no longer pass it.
            jobs = list(dropwhile(lambda job: job.id != cursor, jobs))[1:]
        matching = list(filter(_build_filter(request), jobs))
        page = matching[:_PAGE_SIZE]
        headers = next_page_headers(request, page[-1].id) if len(matching) > _PAGE_SIZE else {}
        return JSONResponse([job.to_dict() for job in page], headers=headers)

    async def count(self, request: Request, user: LocalUser) -> Response:
        """Count the jobs of a namespace."""
        jobs = self._jobs.list_by_namespace(require_readable_namespace(request, user).name)
        return JSONResponse({"count": sum(map(_build_filter(request), jobs))})

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe a job."""
        return JSONResponse(self._require_job(request, user).to_dict())

    async def cancel(self, request: Request, user: LocalUser) -> Response:
        """Cancel a job, and answer when none of its processes runs any more."""
        job = self._require_job(request, user)
        require_writable_namespace(request, user)
        await self._jobs.cancel(job)
        return JSONResponse(job.to_dict())

    async def replace_labels(self, request: Request, user: LocalUser) -> Response:
        """Replace all labels of a job."""
        job = self._require_job(request, user)
        require_writable_namespace(request, user)
        body = await read_body(request, NewLabels)
        job.request = job.request.model_copy(update={"labels": body.labels})
        return JSONResponse(job.to_dict())

    async def stream_logs(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's log from its start to the end of the job."""
        job = self._require_job(request, user)
        tail = request.query_params.get("tail")
        if tail is not None and not (tail.isascii() and tail.isdigit()):
            raise HubApiError(HTTPStatus.BAD_REQUEST, "tail: not a number of lines")
        stream = stream_log_events(job, tail=None if tail is None else int(tail))
        return StreamingResponse(stream, media_type=_EVENT_STREAM_TYPE)

    async def stream_events(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's stages."""
        return StreamingResponse(
            stream_stage_events(self._require_job(request, user)), media_type=_EVENT_STREAM_TYPE
        )

    async def stream_metrics(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's metrics while it has any."""
        job = self._require_job(request, user)
        if job.is_final:
            raise HubApiError(HTTPStatus.NOT_ACCEPTABLE, "Job is not running")
        return StreamingResponse(stream_metric_events(job), media_type=_EVENT_STREAM_TYPE)

    async def check_access(self, request: Request, user: LocalUser) -> Response:
        """Say whether the user may read or write in a namespace, or may access one job."""
        if "job" in request.path_params:
            self._require_job(request, user)
        match request.path_params["access"]:
            case "read":
                namespace = require_readable_namespace(request, user)
            case "write":
                namespace = require_writable_namespace(request, user)
            case _:
                raise HubApiError(HTTPStatus.NOT_FOUND, "Not Found")
        return JSONResponse(
            {
                "namespace": {"id": namespace.id, "name": namespace.name},
                "user": {"id": user.id, "name": user.name},
            }
        )

    def _start(self, job: LocalJob) -> Response:
        if not job.creator.pays:
            raise HubApiError(
                HTTPStatus.PAYMENT_REQUIRED,
                "Pre-paid credit balance is insufficient - add more credits to your account to "
                "use Jobs.",
            )
        self._mounts.require_access(job.request.volumes or [], job.creator)
        self._jobs.start(job)
        return JSONResponse(job.to_dict())

    def _require_job(self, request: Request, user: LocalUser) -> LocalJob:
        job = None
        # To a user without access, another user's job looks like one that does not exist.
        if user.find_namespace(request.path_params["namespace"]):
            namespace = require_readable_namespace(request, user)
            job = self._jobs.get(namespace.name, request.path_params["job"])
        if job is None:
            raise HubApiError(HTTPStatus.NOT_FOUND, "Job not found")
        return job


async def list_hardware(_: Request) -> Response:
    """List the hardware flavors."""
    return JSONResponse([flavor.to_dict() for flavor in FLAVORS.values()])


def _build_filter(request: Request) -> Callable[[LocalJob], bool]:
    stages = {stage.upper() for stage in request.query_params.getlist("stage")}
    label_pairs = [label.partition("=") for label in request.query_params.getlist("label")]
    if not all(equals for _, equals, _ in label_pairs):
        raise HubApiError(HTTPStatus.BAD_REQUEST, "label: not of the form key=value")

    def matches(job: LocalJob) -> bool:
        labels: dict[str, Any] = job.request.labels
        return (not stages or job.stage in stages) and all(
            labels.get(name) == value for name, _, value in label_pairs
        )

    return matches


def require_readable_namespace(request: Request, user: LocalUser) -> Namespace:
    """Return the namespace of a request, if the user may read jobs in it."""
    return _require_namespace(request, user, Permission.READ_JOBS)


def require_writable_namespace(request: Request, user: LocalUser) -> Namespace:
    """Return the namespace of a request, if the user may create jobs in it."""
    return _require_namespace(request, user, Permission.WRITE_JOBS)


def _require_namespace(request: Request, user: LocalUser, permission: Permission) -> Namespace:
    name = request.path_params["namespace"]
    namespace = user.find_namespace(name)
    if namespace is None or not user.has_permission(permission):
        raise HubApiError(
            HTTPStatus.FORBIDDEN,
            "You don't have the required permissions to complete this action on namespace "
            f"{name}, missing permissions: {permission}",
        )
    return namespace
