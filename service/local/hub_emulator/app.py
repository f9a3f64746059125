"""The local Hub as an ASGI application: its routes, what it is made of, and how it is served.

Faults, for tests of those who call it, belong around this application, not into it.
"""

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.local.errors import CannotStart
from service.local.hub_emulator.buckets.routes import BucketRoutes
from service.local.hub_emulator.buckets.store import BucketStore
from service.local.hub_emulator.buckets.xet_store import XetStore
from service.local.hub_emulator.buckets.xet_transfer import XetTransfer
from service.local.hub_emulator.current_user import require_current_user
from service.local.hub_emulator.errors import HubApiError, render_api_error, render_http_exception
from service.local.hub_emulator.inference import chat, models
from service.local.hub_emulator.inference.providers import FakeProviders
from service.local.hub_emulator.jobs.bucket_mounts import BucketMounts
from service.local.hub_emulator.jobs.routes import JobRoutes, list_hardware
from service.local.hub_emulator.jobs.scheduled import ScheduledJobRoutes
from service.local.hub_emulator.jobs.store import JobStore
from service.local.hub_emulator.middleware import AuthRateLimitMiddleware
from service.local.hub_emulator.oauth.errors import OAuthError, render_oauth_error
from service.local.hub_emulator.oauth.grants import GrantStore
from service.local.hub_emulator.oauth.routes import OAuthRoutes
from service.local.hub_emulator.repos.routes import RepoRoutes
from service.local.hub_emulator.repos.store import RepoStore
from service.local.hub_emulator.spaces.routes import SpaceRoutes
from service.local.hub_emulator.users import LocalUser, build_whoami, load_users

_HOST: Final = "127.0.0.1"
_REQUEST_QUOTA: Final = 100_000
"""Requests a user has in a window; the real Hub gives a free user 1,000."""
_SCHEDULING_DELAY: Final = timedelta(milliseconds=300)
_FLUSH_DELAY: Final = timedelta(milliseconds=300)
_SHUTDOWN_GRACE_SECONDS: Final = 2

UserEndpoint = Callable[[Request, LocalUser], Awaitable[Response]]

log = structlog.stdlib.get_logger()


def create_hub_emulator(
    folder: Path,
    *,
    quota: int = _REQUEST_QUOTA,
    scheduling_delay: timedelta = _SCHEDULING_DELAY,
    flush_delay: timedelta = _FLUSH_DELAY,
) -> Starlette:
    """Build the Hub whose users live in `folder`.

    Each user has `quota` requests in a window; a job is `scheduling` for so long before it runs,
    and what it writes into a bucket is there after `flush`; on the Hub that is up to 30 seconds.
    """
    content = XetStore(folder / "xet")
    buckets, transfer = BucketStore(folder), XetTransfer(content)
    mounts = BucketMounts(buckets, transfer, flush_delay)
    jobs = JobStore(mounts, scheduling_delay=scheduling_delay)
    scheduled = ScheduledJobRoutes(jobs)
    grants = GrantStore()
    users = load_users(folder)
    spaces = SpaceRoutes(users)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await spaces.close()
        await scheduled.close()
        await jobs.close()

    return Starlette(
        routes=[
            *_routes(JobRoutes(jobs, mounts)),
            *BucketRoutes(buckets, content, transfer).routes(),
            *content.routes(),
            *scheduled.routes(_with_user),
            *spaces.routes(),
            *RepoRoutes(RepoStore(folder), content.create_link, content.resolve_link).routes(),
            *OAuthRoutes(grants, users).routes(),
        ],
        lifespan=lifespan,
        exception_handlers={
            HubApiError: render_api_error,
            OAuthError: render_oauth_error,
            HTTPException: render_http_exception,
        },
        middleware=[
            Middleware(AuthRateLimitMiddleware, users=users, grants=grants, quota=quota),
            # A page that names this address by another host's name is turned away.
            Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"]),
        ],
    )


async def serve_hub_emulator(
    folder: Path,
    *,
    port: int,
    quota: int = _REQUEST_QUOTA,
    scheduling_delay: timedelta = _SCHEDULING_DELAY,
    flush_delay: timedelta = _FLUSH_DELAY,
) -> None:
    """Serve the Hub on the loopback address until SIGTERM or SIGINT; its jobs end with it.

    Port 0 is any free one; the log says which.
    """
    # The library for the content of buckets has a cache, which is nobody's business but ours.
    os.environ["HF_XET_CACHE"] = str(folder / "xet" / "cache")
    config = uvicorn.Config(
        create_hub_emulator(
            folder, quota=quota, scheduling_delay=scheduling_delay, flush_delay=flush_delay
        ),
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_SECONDS,
    )
    try:
        listener = socket.create_server((_HOST, port))
    except OSError as error:
        # Its own text ends in half a sentence about the address.
        reason = os.strerror(error.errno or 0)
        raise CannotStart(f"The local Hub cannot listen on port {port}: {reason}.") from None
    log.info("hub.started", url=f"http://{_HOST}:{listener.getsockname()[1]}", folder=str(folder))
    await uvicorn.Server(config).serve(sockets=[listener])


def _routes(jobs: JobRoutes) -> list[Route]:
    of_namespace = "/api/jobs/{namespace}"
    of_job = f"{of_namespace}/{{job}}"
    return [
        Route("/api/whoami-v2", _with_user(_whoami)),
        Route("/api/agent-harnesses", _agent_harnesses),
        Route("/api/jobs/hardware", list_hardware),
        Route(of_namespace, _with_user(jobs.create), methods=["POST"]),
        Route(of_namespace, _with_user(jobs.list_page)),
        Route(f"{of_namespace}/count", _with_user(jobs.count)),
        Route(
            f"{of_namespace}/auth-check/{{access}}", _with_user(jobs.check_access), methods=["POST"]
        ),
        Route(of_job, _with_user(jobs.inspect)),
        Route(f"{of_job}/auth-check/{{access}}", _with_user(jobs.check_access), methods=["POST"]),
        Route(f"{of_job}/cancel", _with_user(jobs.cancel), methods=["POST"]),
        Route(f"{of_job}/duplicate", _with_user(jobs.duplicate), methods=["POST"]),
        Route(f"{of_job}/labels", _with_user(jobs.replace_labels), methods=["PUT"]),
        Route(f"{of_job}/logs", _with_user(jobs.stream_logs)),
        Route(f"{of_job}/events", _with_user(jobs.stream_events)),
        Route(f"{of_job}/metrics", _with_user(jobs.stream_metrics)),
        Route("/v1/chat/completions", _with_user(chat.complete_chat), methods=["POST"]),
        *_provider_routes(FakeProviders()),
    ]


def _provider_routes(providers: FakeProviders) -> list[Route]:
    """Route what the router passes on; the names of its providers are the Hub's to give."""
    both = ["GET", "POST"]
    routes = [
        Route("/api/models/{owner}/{name}", models.describe_model),
        Route(
            "/hf-inference/{path:path}", _with_user(providers.call_hf_inference), methods=["POST"]
        ),
        Route("/fal-ai/{path:path}", _with_user(providers.call_fal), methods=both),
        Route("/replicate/{path:path}", _with_user(providers.call_replicate), methods=["POST"]),
    ]
    for provider in ("together", "deepinfra", "scaleway", "nscale"):
        answer = _with_user(partial(providers.call_openai_compatible, provider))
        routes.append(Route(f"/{provider}/{{path:path}}", answer, methods=both))
    return routes


def _with_user(handler: UserEndpoint) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(request, require_current_user(request))

    return endpoint


async def _whoami(_: Request, user: LocalUser) -> Response:
    return JSONResponse(build_whoami(user))


async def _agent_harnesses(_: Request) -> Response:
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})
