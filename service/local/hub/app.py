"""The local Hub as an ASGI application: its routes, who may use them, and how it is served."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub import inference
from service.local.hub.answers import Budgets, HubHeaders, Refusal, refuse, refuse_unknown
from service.local.hub.hardware import FLAVORS
from service.local.hub.jobs import Jobs, LocalJob
from service.local.hub.logs import log_stream
from service.local.hub.requests import JobRequest, check_labels
from service.local.hub.users import LocalUser, load_users, whoami

_PAGE: Final = 20
_QUOTA: Final = 100_000
"""Requests a user has in a window; the real Hub gives a free user 1,000."""
_SCHEDULING: Final = timedelta(milliseconds=300)
_GRACE: Final = 5

Answer = Callable[[Request, LocalUser], Awaitable[Response]]


class Hub:
    """What the routes share."""

    def __init__(self, users: list[LocalUser], *, quota: int) -> None:
        self._users = {user.token: user for user in users}
        self._budgets = Budgets(quota)
        self.jobs = Jobs(scheduling=_SCHEDULING)

    def caller(self, request: Request) -> LocalUser:
        """Return who is calling, at the cost of one request of their budget."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = self._users.get(token) if scheme.lower() == "bearer" else None
        if user is None or user.has_expired():
            raise Refusal(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
        request.state.limits.update(self._budgets.spend(user.id))
        return user

    async def create(self, request: Request, user: LocalUser) -> Response:
        """Create a job, if the caller may and can pay."""
        namespace = _may_write(request, user)
        asked = JobRequest.read(await _body(request))
        if not user.pays:
            raise Refusal(
                HTTPStatus.PAYMENT_REQUIRED,
                "Pre-paid credit balance is insufficient - add more credits to your account to "
                "use Jobs.",
            )
        job = LocalJob(asked, namespace, user)
        self.jobs.start(job)
        return JSONResponse(job.described())

    async def page(self, request: Request, user: LocalUser) -> Response:
        """List a page of jobs, newest first, and say where the next page is."""
        jobs = self._chosen(request, _may_read(request, user))
        cursor = request.query_params.get("cursor")
        ids = [job.id for job in jobs]
        start = ids.index(cursor) + 1 if cursor in ids else 0
        page = jobs[start : start + _PAGE]
        headers: dict[str, str] = {}
        if start + _PAGE < len(jobs):
            url = request.url.include_query_params(cursor=page[-1].id)
            headers["link"] = f'<{url}>; rel="next"'
        return JSONResponse([job.described() for job in page], headers=headers)

    async def count(self, request: Request, user: LocalUser) -> Response:
        """Count jobs."""
        return JSONResponse({"count": len(self._chosen(request, _may_read(request, user)))})

    async def inspect(self, request: Request, user: LocalUser) -> Response:
        """Describe one job."""
        return JSONResponse(self._job(request, user).described())

    async def cancel(self, request: Request, user: LocalUser) -> Response:
        """Stop one job."""
        _may_write(request, user)
        job = self._job(request, user)
        await self.jobs.cancel(job)
        return JSONResponse(job.described())

    async def duplicate(self, request: Request, user: LocalUser) -> Response:
        """Run a job once more; labels are copied, as they are on the Hub."""
        namespace = _may_write(request, user)
        job = LocalJob(
            self._job(request, user).request, namespace, user, initiator="duplicated-job"
        )
        self.jobs.start(job)
        return JSONResponse(job.described())

    async def relabel(self, request: Request, user: LocalUser) -> Response:
        """Replace all labels of a job."""
        _may_write(request, user)
        job = self._job(request, user)
        body = await _body(request)
        try:
            new = check_labels(body["labels"])
        except (KeyError, TypeError, ValueError) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"labels: {error}") from None
        job.request = job.request.model_copy(update={"labels": new})
        return JSONResponse(job.described())

    async def logs(self, request: Request, user: LocalUser) -> Response:
        """Stream a job's log from its beginning to its end."""
        job = self._job(request, user)
        tail = request.query_params.get("tail")
        stream = log_stream(job, tail=int(tail) if tail and tail.isdigit() else None)
        return StreamingResponse(stream, media_type="text/event-stream")

    async def check(self, request: Request, user: LocalUser) -> Response:
        """Say whether the caller may read or write in a namespace, or one job."""
        may = _may_write if request.path_params["access"] == "write" else _may_read
        namespace = may(request, user)
        if "job" in request.path_params:
            self._job(request, user)
        person = {"id": user.id, "name": user.name}
        return JSONResponse({"namespace": {"id": user.id, "name": namespace}, "user": person})

    async def whoami(self, _: Request, user: LocalUser) -> Response:
        """Describe the caller."""
        return JSONResponse(whoami(user))

    def _job(self, request: Request, user: LocalUser) -> LocalJob:
        namespace = str(request.path_params["namespace"])
        found = self.jobs.get(namespace, str(request.path_params["job"]))
        # A foreign job and an unknown one are the same to a stranger.
        if found is None or not user.acts_in(namespace):
            raise Refusal(HTTPStatus.NOT_FOUND, "Job not found")
        return found

    def _chosen(self, request: Request, namespace: str) -> list[LocalJob]:
        stages = {stage.upper() for stage in request.query_params.getlist("stage")}
        wanted = dict(label.split("=", 1) for label in request.query_params.getlist("label"))
        return [
            job
            for job in self.jobs.of(namespace)
            if (not stages or job.stage in stages) and wanted.items() <= job.request.labels.items()
        ]


def create_hub(folder: Path, *, quota: int) -> Starlette:
    """Build the Hub whose users live in `folder`, each with `quota` requests in a window."""
    hub = Hub(load_users(folder), quota=quota)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await hub.jobs.close()

    return Starlette(
        routes=_routes(hub),
        lifespan=lifespan,
        exception_handlers={Refusal: refuse, HTTPException: refuse_unknown},
        middleware=[
            Middleware(HubHeaders),
            # A page that names this address by another host's name is turned away.
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
        ],
    )


async def serve(folder: Path, *, port: int, quota: int = _QUOTA) -> None:
    """Serve the Hub on the loopback address until SIGTERM or SIGINT; its jobs end with it."""
    config = uvicorn.Config(
        create_hub(folder, quota=quota),
        host="127.0.0.1",
        port=port,
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    await uvicorn.Server(config).serve()


def _routes(hub: Hub) -> list[Route]:
    signed_in = partial(_signed_in, hub)
    job = "/api/jobs/{namespace}/{job}"
    return [
        Route("/api/whoami-v2", signed_in(hub.whoami)),
        Route("/api/agent-harnesses", _agent_harnesses),
        Route("/api/jobs/hardware", _hardware),
        Route("/api/jobs/{namespace}", signed_in(hub.create), methods=["POST"]),
        Route("/api/jobs/{namespace}", signed_in(hub.page)),
        Route("/api/jobs/{namespace}/count", signed_in(hub.count)),
        Route("/api/jobs/{namespace}/auth-check/{access}", signed_in(hub.check), methods=["POST"]),
        Route(job, signed_in(hub.inspect)),
        Route(f"{job}/auth-check/{{access}}", signed_in(hub.check), methods=["POST"]),
        Route(f"{job}/cancel", signed_in(hub.cancel), methods=["POST"]),
        Route(f"{job}/duplicate", signed_in(hub.duplicate), methods=["POST"]),
        Route(f"{job}/labels", signed_in(hub.relabel), methods=["PUT"]),
        Route(f"{job}/logs", signed_in(hub.logs)),
        Route("/v1/chat/completions", signed_in(inference.chat), methods=["POST"]),
    ]


def _signed_in(hub: Hub, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await answer(request, hub.caller(request))

    return endpoint


def _may_read(request: Request, user: LocalUser) -> str:
    namespace = str(request.path_params["namespace"])
    if not user.acts_in(namespace):
        raise _missing(namespace, "job.read")
    return namespace


def _may_write(request: Request, user: LocalUser) -> str:
    namespace = str(request.path_params["namespace"])
    if not user.may_act or not user.acts_in(namespace):
        raise _missing(namespace, "job.write")
    return namespace


def _missing(namespace: str, permission: str) -> Refusal:
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "You don't have the required permissions to complete this action on namespace "
        f"{namespace}, missing permissions: {permission}",
    )


async def _body(request: Request) -> Any:
    try:
        return await request.json()
    except json.JSONDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "body: not JSON") from None


async def _hardware(_: Request) -> Response:
    return JSONResponse([flavor.described() for flavor in FLAVORS.values()])


async def _agent_harnesses(_: Request) -> Response:
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})
