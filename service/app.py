"""The composition root of the service: `uvicorn --factory service.app:create_app`."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
from mcp.server import MCPServer
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.mcpserver import RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Route

from schema.accounts.row_security import Role
from schema.accounts.vault import Vault
from schema.common import failpoints, log_config
from schema.common.durations import say
from schema.common.errors import Unavailable
from schema.common.http import release
from schema.db.database import Database
from schema.messaging.change_notifications import hints
from schema.messaging.wakeups import doorbell
from schema.settings import Settings
from service.auth.authenticators import ExternalSignIn, HubSignIn, SignIn
from service.auth.caller import Scope
from service.auth.hub_client import huggingface
from service.auth.jwt_verifier import external_authority
from service.auth.registration_proxy import ROUTES as PROXY_ROUTES
from service.auth.registration_proxy import proxy
from service.auth.resource_metadata import Metadata
from service.auth.token_verifier import Callers
from service.database import Ground
from service.http import downloads, health
from service.http.middleware import MAX_BODY, Edge
from service.http.rate_limit import limits
from service.mcp import resources
from service.mcp.completions import completing
from service.mcp.instructions import INSTRUCTIONS
from service.mcp.prompts import Recipe, recipes
from service.mcp.subscriptions.listen import Listening
from service.mcp.tasks.extension import CANCEL, Tasks, TaskSource
from service.mcp.tasks.job_tasks import JobTasks
from service.mcp.tool import Contract, hide_what_is_of_no_use, refuse_unknown
from service.mcp.tools import (
    account,
    hardware,
    jobs,
    launch_inference,
    launch_job,
    launch_space_call,
    retry_job,
    schedules,
    wait_for_jobs,
    workspaces,
)
from service.runtime.confirmation_tokens import Seals
from service.runtime.context import CALLING, App
from service.runtime.derived_keys import keys
from service.runtime.download_links import Links
from service.runtime.job_watch import waiting
from service.runtime.price_cache import Prices
from service.runtime.resource_watch import following
from service.runtime.space_catalog import Spaces
from service.runtime.wait_slots import turns

_APPLICATION: Final = "holdfast-service"
_LISTED_MS: Final = 60_000
"""How long a client may keep the list of tools, which depends on who asks."""
_PRIVATE: Final[dict[CacheableMethod, CacheHint]] = {
    **dict.fromkeys(
        ("tools/list", "prompts/list", "resources/templates/list"),
        CacheHint(ttl_ms=_LISTED_MS, scope="private"),
    ),
    **dict.fromkeys(("resources/list", "resources/read"), CacheHint(ttl_ms=0, scope="private")),
}
"""Nothing answered to one caller may be kept for another."""

log = structlog.stdlib.get_logger()


def create_app(settings: Settings | None = None) -> Starlette:
    """Assemble the ASGI application; the environment is read unless settings are given."""
    settings = settings or Settings.read()
    retention = say(settings.retention)
    tools = [
        *launch_job.contracts(retention),
        *launch_inference.contracts(retention),
        *launch_space_call.contracts(retention),
        *jobs.contracts(),
        *wait_for_jobs.contracts(),
        *retry_job.contracts(),
        *workspaces.contracts(),
        *schedules.contracts(),
        *hardware.contracts(),
        *account.contracts(),
    ]
    return assemble(settings, tools, recipes())


def assemble(
    settings: Settings,
    tools: list[Contract],
    prompts: Sequence[Recipe],
    *more: Callable[[MCPServer[App]], None],
    source: TaskSource | None = None,
) -> Starlette:
    """Put a server of these tools and prompts, and of what `more` adds to it, behind our edge.

    Tasks are jobs, unless another source of them is given.
    """
    failpoints.arm(settings.failpoint)
    log_config.configure()  # before MCPServer, which sets logging up in its own way if nobody has
    public_url = str(settings.public_url).rstrip("/")
    hub_url = str(settings.hub_url).rstrip("/")
    issuer = settings.jwt_issuer or hub_url if settings.auth == "jwt" else hub_url

    @asynccontextmanager
    async def lend(_: MCPServer[App]) -> AsyncGenerator[App]:
        # Entered once by each transport; what it lends is opened once, below.
        yield web.state.app

    own = JobTasks(settings.retention)
    server = _server(settings, lend, tools, prompts, lambda: web.state.app, own, source or own)
    for add in more:
        add(server)
    plain, streaming = (_transport(server, as_json=as_json) for as_json in (True, False))

    @asynccontextmanager
    async def lifespan(web: Starlette) -> AsyncGenerator[None]:
        vault = Vault.of(settings.vault_keys.get_secret_value())
        async with (
            AsyncExitStack() as stack,
            hints(redis_url := str(settings.redis_url)) as told,
            Database(
                str(settings.database_url),
                application=_APPLICATION,
                role=Role.TENANT,
                tell=told.tell,
            ) as database,
            doorbell(redis_url) as bell,
            huggingface(hub_url) as hub,
            limits(
                redis_url,
                ground := Ground(database),
                calls_per_minute=settings.calls_per_minute,
            ) as allowance,
            waiting(redis_url, ground) as waiters,
            following(ground) as followers,
            turns(redis_url, limit=settings.waits) as waits_allowed,
        ):
            web.state.limits = allowance
            callers = Callers(hub, ground, vault)
            web.state.sign_in = await stack.enter_async_context(_sign_in(settings, callers))
            web.state.app = App(
                ground=ground,
                doorbell=bell,
                callers=callers,
                vault=vault,
                hub_url=hub_url,
                open_jobs=settings.open_jobs,
                bucket=settings.bucket,
                waiting=waiters,
                following=followers,
                turns=waits_allowed,
                seals=Seals(keys(settings, b"holdfast confirmation")),
                links=Links(public_url, hub_url, keys(settings, b"holdfast download")),
                prices=Prices(hub, ground),
                spaces=Spaces(hub, ground, settings.spaces_url),
                monthly_budget=settings.monthly_budget,
            )
            if settings.oauth_client_id is not None:
                standing_in = proxy(issuer, public_url, settings.oauth_client_id)
                web.state.proxy = await stack.enter_async_context(standing_in)
            await _say_hello(ground)
            async with plain.run(), streaming.run():
                yield

    proxied = settings.oauth_client_id is not None
    ours = () if settings.auth == "jwt" else ("openid", "profile")
    metadata = Metadata(public_url, public_url if proxied else issuer, *ours)
    edge = Edge(
        public_url,
        metadata,
        plain=plain.handle_request,
        streaming=streaming.handle_request,
        needs={tool.name: tool.needs for tool in tools} | {CANCEL: tuple(Scope)},
        browsable=settings.anonymous == "browse",
    )
    routes = [Route("/mcp", edge), *metadata.routes(), *health.ROUTES, *downloads.ROUTES]
    routes += PROXY_ROUTES if proxied else []
    web = Starlette(routes=routes, lifespan=lifespan)
    return web


@asynccontextmanager
async def _sign_in(settings: Settings, callers: Callers) -> AsyncGenerator[SignIn]:
    if settings.auth == "huggingface" or settings.jwt_issuer is None:
        yield HubSignIn(callers)
        return
    async with external_authority(
        issuer=settings.jwt_issuer,
        audience=settings.token_audience,
        jwks_url=settings.jwt_jwks_url,
        leeway=settings.jwt_leeway,
    ) as authority:
        yield ExternalSignIn(authority, callers)


async def _say_hello(ground: Ground) -> None:
    try:
        log.info("service.started", revision=await ground.revision())
    except Unavailable as error:
        # Not fatal: the process stays up, says what is wrong, and serves once it is put right.
        log.error("service.not_ready", why=str(error))  # noqa: TRY400  # a sentence, not a bug


def _server(
    settings: Settings,
    lend: Any,
    tools: list[Contract],
    prompts: Sequence[Recipe],
    application: Callable[[], App],
    own: JobTasks,
    source: TaskSource,
) -> MCPServer[App]:
    server = MCPServer[App](
        "holdfast",
        title="Holdfast",
        version=release(),
        instructions=INSTRUCTIONS,
        tools=list[Any](tools),
        lifespan=lend,
        request_state_security=RequestStateSecurity(
            keys=keys(settings, b"holdfast request state"), bind_principal=_principal
        ),
        subscriptions=False,  # served by ours, which knows callers and tasks
        extensions=[Tasks(source)],
        cache_hints=_PRIVATE,
        middleware=[
            refuse_unknown(tools, prompts),
            hide_what_is_of_no_use(tools),
            resources.list_newest,
            Listening(own),
        ],
    )
    resources.publish(server)
    for prompt in prompts:
        server.add_prompt(prompt)
    complete: Any = server.completion  # the SDK leaves it untyped
    complete()(completing(application, prompts))
    return server


def _transport(server: MCPServer[App], *, as_json: bool) -> StreamableHTTPSessionManager:
    # What these settings guard has been checked at the edge, before the token was.
    server.streamable_http_app(
        stateless_http=True,
        json_response=as_json,
        max_request_body_size=MAX_BODY,
        host="0.0.0.0",  # noqa: S104  # binds nothing; turns the SDK's own Host check off
    )
    return server.session_manager


def _principal(_: object) -> str | None:
    caller = CALLING.get()
    return caller.subject_id if caller else None
