"""The emulated Hub as an ASGI application: its composition root, and its server.

Tests that need faults wrap this application; none are built into it.
"""

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
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
from typing_extensions import override

from schema.common.http import LOOPBACK, open_listener
from schema.common.process import shutdown
from service.local.hub_emulator.buckets.routes import BucketRoutes
from service.local.hub_emulator.buckets.store import BucketStore
from service.local.hub_emulator.buckets.xet_store import XetStore
from service.local.hub_emulator.buckets.xet_transfer import XetTransfer
from service.local.hub_emulator.current_user import missing_permission_error, with_current_user
from service.local.hub_emulator.errors import HubApiError, render_api_error, render_http_exception
from service.local.hub_emulator.inference import chat, models
from service.local.hub_emulator.inference.providers import FakeProviders
from service.local.hub_emulator.jobs.bucket_mounts import BucketMounts
from service.local.hub_emulator.jobs.routes import JobRoutes
from service.local.hub_emulator.jobs.scheduled import ScheduledJobRoutes
from service.local.hub_emulator.jobs.store import JobStore
from service.local.hub_emulator.middleware import AuthRateLimitMiddleware
from service.local.hub_emulator.oauth.errors import OAuthError, render_oauth_error
from service.local.hub_emulator.oauth.grants import GrantStore
from service.local.hub_emulator.oauth.routes import OAuthRoutes
from service.local.hub_emulator.repos.routes import RepoRoutes
from service.local.hub_emulator.repos.store import RepoStore
from service.local.hub_emulator.shared.links import LinkStore
from service.local.hub_emulator.spaces.routes import SpaceRoutes
from service.local.hub_emulator.users import (
    LocalUser,
    Permission,
    build_whoami,
    build_zero_gpu_quota,
    load_users,
)

_REQUEST_QUOTA: Final = 100_000
"""Requests that a user may make in one window; the real Hub gives a free user 1,000."""
_SCHEDULING_DELAY: Final = timedelta(milliseconds=300)
_FLUSH_DELAY: Final = timedelta(milliseconds=300)
_SHUTDOWN_GRACE_SECONDS: Final = 2

log = structlog.stdlib.get_logger()


def create_hub_emulator(
    folder: Path,
    *,
    quota: int = _REQUEST_QUOTA,
    scheduling_delay: timedelta = _SCHEDULING_DELAY,
    flush_delay: timedelta = _FLUSH_DELAY,
) -> Starlette:
    """Build the Hub whose data is in `folder`.

    Args:
        folder: where users, buckets and repositories are; created if it is missing.
        quota: the requests that each user may make in one window.
        scheduling_delay: how long a job stays in the stage SCHEDULING before it runs.
        flush_delay: how long after a job has written a file the file is in the bucket; on the Hub
            that takes up to 30 seconds.
    """
    links = LinkStore()
    xet_store = XetStore(folder / "xet", links)
    buckets, transfer = BucketStore(folder), XetTransfer(xet_store)
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
            Route("/api/whoami-v2", with_current_user(_whoami)),
            Route("/api/spaces/zero-gpu/quota", with_current_user(_zero_gpu_quota)),
            Route("/api/agent-harnesses", _agent_harnesses),
            *JobRoutes(jobs, mounts).routes(),
            *scheduled.routes(),
            *BucketRoutes(buckets, xet_store, transfer, links).routes(),
            *xet_store.routes(),
            *spaces.routes(),
            Route("/v1/chat/completions", with_current_user(chat.complete_chat), methods=["POST"]),
            Route("/api/models/{owner}/{name}", models.describe_model),
            *FakeProviders().routes(),
            *RepoRoutes(RepoStore(folder), links).routes(),
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
            # Refuses a web page that has rebound its own host name to this address.
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "[::1]", "localhost"]),
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

    Port 0 takes a free port, which the log names. The other arguments are those of
    `create_hub_emulator`.

    Raises:
        CannotListen: the port is taken or reserved.
    """
    # hf_xet keeps a cache; this one must not mix with the one in the user's home.
    os.environ["HF_XET_CACHE"] = str(folder / "xet" / "cache")
    os.environ["TMPDIR"] = str(_create_scratch_folder(folder))
    config = uvicorn.Config(
        create_hub_emulator(
            folder, quota=quota, scheduling_delay=scheduling_delay, flush_delay=flush_delay
        ),
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_SECONDS,
    )
    listener = open_listener(LOOPBACK, port)
    log.info(
        "hub.started", url=f"http://{LOOPBACK}:{listener.getsockname()[1]}", folder=str(folder)
    )
    await _HubServer(config).serve(sockets=[listener])


class _HubServer(uvicorn.Server):
    """A server that ends within the grace, whatever a job of it waits for."""

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            shutdown.end_within(shutdown.GRACE)
        super().handle_exit(sig, frame)


def _create_scratch_folder(folder: Path) -> Path:
    """Return an empty folder for what jobs and Spaces need while they run.

    A Hub that was killed could not remove its files: the next one does.
    """
    scratch = folder / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


async def _whoami(_: Request, user: LocalUser) -> Response:
    return JSONResponse(build_whoami(user))


async def _zero_gpu_quota(_: Request, user: LocalUser) -> Response:
    if not user.has_permission(Permission.READ_BILLING):
        raise missing_permission_error("ZeroGPU quota", Permission.READ_BILLING)
    return JSONResponse(build_zero_gpu_quota())


async def _agent_harnesses(_: Request) -> Response:
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})
