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
from service.local.hub_emulator.buckets.store import Buckets
from service.local.hub_emulator.buckets.xet_store import Content
from service.local.hub_emulator.buckets.xet_transfer import Transfer
from service.local.hub_emulator.current_user import signed_in
from service.local.hub_emulator.errors import Refusal, refuse, refuse_unknown
from service.local.hub_emulator.inference import chat, models
from service.local.hub_emulator.inference.providers import Providers
from service.local.hub_emulator.jobs.bucket_mounts import Mounts
from service.local.hub_emulator.jobs.routes import JobRoutes, hardware
from service.local.hub_emulator.jobs.scheduled import ScheduledRoutes
from service.local.hub_emulator.jobs.store import Jobs
from service.local.hub_emulator.middleware import Gate
from service.local.hub_emulator.oauth.errors import OAuthRefusal, refuse_oauth
from service.local.hub_emulator.oauth.grants import Grants
from service.local.hub_emulator.oauth.routes import OAuthRoutes
from service.local.hub_emulator.repos.routes import RepoRoutes
from service.local.hub_emulator.repos.store import Repos
from service.local.hub_emulator.spaces.routes import Spaces
from service.local.hub_emulator.users import LocalUser, load_users, whoami

_HOST: Final = "127.0.0.1"
_QUOTA: Final = 100_000
"""Requests a user has in a window; the real Hub gives a free user 1,000."""
_SCHEDULING: Final = timedelta(milliseconds=300)
_FLUSH: Final = timedelta(milliseconds=300)
_GRACE: Final = 2

Answer = Callable[[Request, LocalUser], Awaitable[Response]]

log = structlog.stdlib.get_logger()


def create_hub(
    folder: Path,
    *,
    quota: int = _QUOTA,
    scheduling: timedelta = _SCHEDULING,
    flush: timedelta = _FLUSH,
) -> Starlette:
    """Build the Hub whose users live in `folder`.

    Each user has `quota` requests in a window; a job is `scheduling` for so long before it runs,
    and what it writes into a bucket is there after `flush`; on the Hub that is up to 30 seconds.
    """
    content = Content(folder / "xet")
    buckets, transfer = Buckets(folder), Transfer(content)
    mounts = Mounts(buckets, transfer, flush)
    jobs = Jobs(mounts, scheduling=scheduling)
    scheduled = ScheduledRoutes(jobs)
    grants = Grants()
    users = load_users(folder)
    spaces = Spaces(users)

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
            *scheduled.routes(_signed_in),
            *spaces.routes(),
            *RepoRoutes(Repos(folder), content.lend, content.lent).routes(),
            *OAuthRoutes(grants, users).routes(),
        ],
        lifespan=lifespan,
        exception_handlers={
            Refusal: refuse,
            OAuthRefusal: refuse_oauth,
            HTTPException: refuse_unknown,
        },
        middleware=[
            Middleware(Gate, users=users, grants=grants, quota=quota),
            # A page that names this address by another host's name is turned away.
            Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"]),
        ],
    )


async def serve(
    folder: Path,
    *,
    port: int,
    quota: int = _QUOTA,
    scheduling: timedelta = _SCHEDULING,
    flush: timedelta = _FLUSH,
) -> None:
    """Serve the Hub on the loopback address until SIGTERM or SIGINT; its jobs end with it.

    Port 0 is any free one; the log says which.
    """
    # The library for the content of buckets has a cache, which is nobody's business but ours.
    os.environ["HF_XET_CACHE"] = str(folder / "xet" / "cache")
    config = uvicorn.Config(
        create_hub(folder, quota=quota, scheduling=scheduling, flush=flush),
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE,
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
        Route("/api/whoami-v2", _signed_in(_whoami)),
        Route("/api/agent-harnesses", _agent_harnesses),
        Route("/api/jobs/hardware", hardware),
        Route(of_namespace, _signed_in(jobs.create), methods=["POST"]),
        Route(of_namespace, _signed_in(jobs.page)),
        Route(f"{of_namespace}/count", _signed_in(jobs.count)),
        Route(f"{of_namespace}/auth-check/{{access}}", _signed_in(jobs.check), methods=["POST"]),
        Route(of_job, _signed_in(jobs.inspect)),
        Route(f"{of_job}/auth-check/{{access}}", _signed_in(jobs.check), methods=["POST"]),
        Route(f"{of_job}/cancel", _signed_in(jobs.cancel), methods=["POST"]),
        Route(f"{of_job}/duplicate", _signed_in(jobs.duplicate), methods=["POST"]),
        Route(f"{of_job}/labels", _signed_in(jobs.relabel), methods=["PUT"]),
        Route(f"{of_job}/logs", _signed_in(jobs.logs)),
        Route(f"{of_job}/events", _signed_in(jobs.events)),
        Route(f"{of_job}/metrics", _signed_in(jobs.metrics)),
        Route("/v1/chat/completions", _signed_in(chat.chat), methods=["POST"]),
        *_providers(Providers()),
    ]


def _providers(behind: Providers) -> list[Route]:
    """Route what the router passes on; the names of its providers are the Hub's to give."""
    both = ["GET", "POST"]
    routes = [
        Route("/api/models/{owner}/{name}", models.model),
        Route("/hf-inference/{path:path}", _signed_in(behind.hf_inference), methods=["POST"]),
        Route("/fal-ai/{path:path}", _signed_in(behind.fal), methods=both),
        Route("/replicate/{path:path}", _signed_in(behind.replicate), methods=["POST"]),
    ]
    for provider in ("together", "deepinfra", "scaleway", "nscale"):
        answer = _signed_in(partial(behind.openai, provider))
        routes.append(Route(f"/{provider}/{{path:path}}", answer, methods=both))
    return routes


def _signed_in(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await answer(request, signed_in(request))

    return endpoint


async def _whoami(_: Request, user: LocalUser) -> Response:
    return JSONResponse(whoami(user))


async def _agent_harnesses(_: Request) -> Response:
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})
