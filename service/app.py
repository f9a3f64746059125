"""The composition root of the service: `uvicorn --factory service.app:create_app`."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import httpx2
import structlog
from mcp.server import MCPServer
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.mcpserver import RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.artifacts.uploads import UploadLimits
from schema.common import failpoints
from schema.common.durations import format_duration
from schema.common.errors import Unavailable
from schema.common.observability import log_config
from schema.common.observability.tracing import open_tracer
from schema.common.process.background import run_in_background
from schema.common.process.tls import shared_ssl_context
from schema.common.version import package_version
from schema.db import revisions
from schema.db.database import Database
from schema.hub.client import open_hub_client
from schema.hub.hub_files import HubFileReader
from schema.hub.url_fetcher import Fetcher
from schema.jobs.tables import JobKind
from schema.messaging.change_notifications import open_change_publisher
from schema.messaging.wakeups import open_wakeup_sender
from schema.settings import Settings
from service.auth.caller import ACTING_SCOPES
from service.auth.hub_client import HUB_CONNECT_TIMEOUT, HubAccountClient
from service.auth.resource_metadata import ProtectedResourceMetadata
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from service.http import health
from service.http.connect.routes import build_connect_routes
from service.http.cross_origin import allow_cross_origin
from service.http.files import downloads
from service.http.files.uploads import build_upload_routes
from service.http.metrics import build_metrics_route
from service.http.middleware import MAX_BODY_BYTES, McpEndpoint
from service.http.pages.static_files import STATIC_ROUTE
from service.http.rate_limit import RateLimiter, open_rate_limiter
from service.http.request_options import READ_ONLY_PATH
from service.http.single_exchange import SingleExchangeTransport
from service.http.trailing_slash import TrailingSlashMiddleware
from service.jobs import exports
from service.mcp import resources
from service.mcp.catalog.help import build_help_page, register_help
from service.mcp.catalog.instructions import INSTRUCTIONS, adapt_instructions
from service.mcp.catalog.visibility import hide_unselected
from service.mcp.completions import build_completion_handler
from service.mcp.prompts import McpPrompt, build_prompts
from service.mcp.subscriptions.listen import SubscriptionListener
from service.mcp.tasks.extension import CANCEL_METHOD, TasksExtension, TaskSource
from service.mcp.tasks.job_tasks import JobTasks
from service.mcp.tool import (
    READ_ONLY,
    McpTool,
    hide_unusable_tools,
    reject_unknown_names,
    shorten_errors,
)
from service.mcp.tools import (
    account,
    hardware,
    jobs,
    launch_inference,
    launch_job,
    launch_space_call,
    retry_job,
    schedules,
    uploads,
    wait_for_jobs,
    workspaces,
)
from service.runtime.call_metrics import ServiceMetrics
from service.runtime.call_observer import observe_calls
from service.runtime.context import CURRENT_CALLER, App
from service.runtime.price_cache import PriceCache
from service.runtime.sealed_tokens import (
    ConfirmationTokens,
    DownloadLinks,
    UploadLinks,
    derive_keys,
)
from service.runtime.space_catalog import SpaceCatalog
from service.runtime.toolsets import ToolCatalog
from service.runtime.wait_slots import open_wait_slots
from service.runtime.watch import open_watch
from service.web.errors import EXCEPTION_HANDLERS
from service.web.home import HomePages, Site
from service.web.job_pages import JobPages
from service.web.sign_in import (
    OpenedSignIn,
    ServiceUrls,
    build_page_routes,
    build_sessions,
    build_sign_in_routes,
    open_sign_in,
    scope_names,
    sign_in_scopes,
)

_APPLICATION_NAME: Final = "holdfast-service"
_LIST_TTL_MS: Final = 60_000
"""How long a client may cache the list of tools, which differs from caller to caller."""
_CACHE_HINTS: Final[dict[CacheableMethod, CacheHint]] = {
    **dict.fromkeys(
        ("tools/list", "prompts/list", "resources/templates/list"),
        CacheHint(ttl_ms=_LIST_TTL_MS, scope="private"),
    ),
    **dict.fromkeys(("resources/list", "resources/read"), CacheHint(ttl_ms=0, scope="private")),
}
"""No answer to one caller may be cached for another."""

log = structlog.stdlib.get_logger()


def create_app(settings: Settings | None = None) -> Starlette:
    """Assemble the ASGI application; the environment is read unless settings are given."""
    settings = settings or Settings.from_env()
    return assemble_app(settings, build_all_tools(settings.retention_of), build_prompts())


def build_all_tools(retention_of: Callable[[str], timedelta]) -> list[McpTool]:
    """Build every tool of the service.

    Args:
        retention_of: how long a job of a kind is kept, for the tools that launch one.
    """
    kept_for = {kind: format_duration(retention_of(kind)) for kind in JobKind}
    calls, batches = kept_for[JobKind.INFERENCE], kept_for[JobKind.BATCH]
    return [
        *launch_job.build_tools(kept_for[JobKind.HUB_JOB]),
        *launch_inference.build_tools(
            calls if calls == batches else f"{calls} (those of a batch for {batches})"
        ),
        *launch_space_call.build_tools(kept_for[JobKind.SPACE_CALL]),
        *jobs.build_tools(),
        *wait_for_jobs.build_tools(),
        *retry_job.build_tools(),
        *workspaces.build_tools(),
        *schedules.build_tools(),
        *uploads.build_tools(),
        *hardware.build_tools(),
        *account.build_tools(),
    ]


def assemble_app(
    settings: Settings,
    tools: list[McpTool],
    prompts: Sequence[McpPrompt],
    *customizations: Callable[[MCPServer[App]], None],
    task_source: TaskSource | None = None,
) -> Starlette:
    """Assemble the ASGI application of a server with these tools and prompts.

    Args:
        settings: everything that may differ between deployments.
        tools: what the server offers.
        prompts: what the server offers besides tools.
        customizations: each is called with the MCP server before it serves.
        task_source: where tasks are read; None: tasks are jobs.
    """
    failpoints.arm(settings.failpoint)
    # Before MCPServer, which sets logging up in its own way if nobody has.
    log_config.configure_logging()
    urls = ServiceUrls.from_settings(settings)

    @asynccontextmanager
    async def provide_app(_: MCPServer[App]) -> AsyncGenerator[App]:
        # Each transport enters this once; the App is opened once, by the lifespan below.
        yield web.state.app

    job_tasks = JobTasks(settings.retention_of)
    public_tools = [tool.name for tool in tools if tool.is_public]
    catalog = ToolCatalog((tool.name, tool.annotations == READ_ONLY) for tool in tools)
    metrics = ServiceMetrics(tools=[tool.name for tool in tools])
    metrics.add_kinds(list(JobKind))
    server = _build_server(
        settings,
        provide_app,
        metrics,
        tools,
        prompts,
        lambda: web.state.app,
        job_tasks,
        task_source or job_tasks,
        build_help_page(
            urls.public,
            external_issuer=urls.issuer if settings.auth == "jwt" else None,
            public_tools=public_tools,
            can_connect=settings.connects_accounts,
        ),
        catalog,
    )
    for customize in customizations:
        customize(server)
    json_transport = _build_transport(server, json_response=True)
    sse_transport = _build_transport(server, json_response=False)

    @asynccontextmanager
    async def lifespan(web: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(
                _open_app(settings, urls, metrics, issuer_session)
            )
            web.state.app = opened.app
            web.state.authenticator = opened.sign_in.authenticator
            web.state.connect_pages = opened.sign_in.connect_pages
            web.state.account_pages = opened.sign_in.account_pages
            web.state.rate_limiter = opened.rate_limiter
            await stack.enter_async_context(issuer_session)
            database = opened.app.database
            await _log_start(database)
            async with (
                run_in_background(database.check_revision_regularly()),
                json_transport.run(),
                sse_transport.run(),
            ):
                yield

    has_proxy = settings.oauth_client_id is not None
    # Another authorization server knows no scopes for what is at the Hub.
    scopes = sign_in_scopes(settings)
    metadata = ProtectedResourceMetadata(
        urls.public,
        urls.public if has_proxy else urls.issuer,
        *scopes,
        scope_names=scope_names(settings),
        audience=settings.jwt_audience if settings.auth == "jwt" else None,
    )
    endpoint = McpEndpoint(
        urls.public,
        metadata,
        json_transport=SingleExchangeTransport(json_transport),
        sse_transport=sse_transport.handle_request,
        required_scopes={tool.name: tool.required_scopes for tool in tools}
        | {CANCEL_METHOD: ACTING_SCOPES},
        scope_finders={
            tool.name: tool.scope_finder for tool in tools if tool.scope_finder is not None
        },
        allowed_origins=settings.allowed_origins,
        public_tools=public_tools,
        is_selected=catalog.is_selected,
        allow_browsing=settings.anonymous == "browse",
        on_answer=metrics.count_answer,
    )
    mcp_route = allow_cross_origin(endpoint, urls.public, settings.allowed_origins)
    show_account = build_sessions(settings, urls).show_account
    routes = [
        Route("/mcp", mcp_route),
        Route(READ_ONLY_PATH, mcp_route),
        *metadata.routes(),
        *health.ROUTES,
        *downloads.build_routes(exports.open_export),
        STATIC_ROUTE,
        *HomePages(
            Site(
                urls.public,
                tools,
                external_issuer=urls.issuer if settings.auth == "jwt" else None,
                can_connect=settings.connects_accounts,
            ),
            show_account,
        ).routes,
        *build_upload_routes(),
        *build_page_routes(
            settings,
            urls,
            lambda: web.state.account_pages,
            JobPages(lambda: web.state.app, show_account),
        ),
    ]
    issuer_session = httpx2.AsyncClient(verify=shared_ssl_context())
    routes += build_sign_in_routes(settings, urls, issuer_session)
    if settings.connects_accounts:
        routes += build_connect_routes(lambda: web.state.connect_pages)
    if settings.metrics_token is not None:
        token = Secret(settings.metrics_token.get_secret_value())
        routes.append(build_metrics_route(metrics, token))
    web = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(TrailingSlashMiddleware)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    web.router.redirect_slashes = False
    return web


@dataclass(frozen=True, slots=True)
class _OpenedApp:
    """The App, and what a request needs before it reaches the App."""

    app: App
    sign_in: OpenedSignIn
    rate_limiter: RateLimiter


@asynccontextmanager
async def _open_app(
    settings: Settings, urls: ServiceUrls, metrics: ServiceMetrics, session: httpx2.AsyncClient
) -> AsyncGenerator[_OpenedApp]:
    """Open the connections of the process, and build the App on them."""
    vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
    redis_url = str(settings.redis_url)
    async with (
        AsyncExitStack() as stack,
        open_tracer(settings.trace_collector, process=_APPLICATION_NAME) as tracer,
        open_change_publisher(redis_url) as change_publisher,
        Database(
            str(settings.database_url),
            application_name=_APPLICATION_NAME,
            role=DatabaseRole.TENANT,
            max_connections=settings.database_connections,
            pooled=settings.pooled,
            on_job_changes=change_publisher.enqueue,
            on_transitions=metrics.observe_transitions,
            on_refusal=revisions.require_usable_revision,
        ) as database,
        open_wakeup_sender(redis_url) as wakeup_sender,
        open_hub_client(
            urls.hub, connect_timeout=HUB_CONNECT_TIMEOUT, on_request=metrics.count_hub_request
        ) as hub,
        open_rate_limiter(
            redis_url,
            tenant_database := TenantDatabase(database, vault),
            calls_per_minute=settings.calls_per_minute,
        ) as rate_limiter,
        open_watch(redis_url, tenant_database) as watch,
        open_wait_slots(redis_url, limit=settings.waits) as wait_slots,
    ):
        metrics.watch_pool(database.read_pool_usage)
        hub_accounts = HubAccountClient(hub)
        token_verifier = TokenVerifier(hub_accounts, tenant_database, vault)
        sign_in = await stack.enter_async_context(
            open_sign_in(
                settings,
                urls,
                session,
                token_verifier=token_verifier,
                hub_accounts=hub_accounts,
                database=tenant_database,
                vault=vault,
            )
        )
        app = App(
            database=tenant_database,
            wakeups=wakeup_sender,
            token_verifier=token_verifier,
            vault=vault,
            hub=hub,
            hub_url=urls.hub,
            max_open_jobs=settings.open_jobs,
            output_bucket_name=settings.bucket,
            watch=watch,
            wait_slots=wait_slots,
            confirmation_tokens=ConfirmationTokens(derive_keys(settings, b"holdfast confirmation")),
            download_links=DownloadLinks(
                urls.public, urls.hub, derive_keys(settings, b"holdfast download")
            ),
            upload_links=UploadLinks(urls.public, derive_keys(settings, b"holdfast upload")),
            upload_limits=_read_upload_limits(settings),
            hub_files=HubFileReader(hub, Fetcher()),
            price_cache=PriceCache(hub, tenant_database),
            space_catalog=SpaceCatalog(hub_accounts, tenant_database, settings.spaces_url),
            monthly_budget_micro_usd=settings.monthly_budget_micro_usd,
            webhook_origins=settings.webhook_origins,
            spending_retention=settings.retention_spending,
            tracer=tracer,
        )
        yield _OpenedApp(app, sign_in, rate_limiter)


def _read_upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        max_bytes=settings.upload_bytes,
        max_total_bytes=settings.upload_total_bytes,
        max_uploads=settings.uploads,
        retention=settings.retention_upload,
    )


async def _log_start(database: TenantDatabase) -> None:
    try:
        log.info("service.started", revision=await database.read_revision())
    except Unavailable as error:
        # Not fatal: the process stays up, says what is wrong, and serves as soon as that is mended.
        log.error("service.not_ready", why=str(error))  # noqa: TRY400  # a sentence, not a bug


def _build_server(
    settings: Settings,
    lifespan: Any,
    metrics: ServiceMetrics,
    tools: list[McpTool],
    prompts: Sequence[McpPrompt],
    get_app: Callable[[], App],
    job_tasks: JobTasks,
    task_source: TaskSource,
    help_page: str,
    catalog: ToolCatalog,
) -> MCPServer[App]:
    server = MCPServer[App](
        "holdfast",
        title="Holdfast",
        version=package_version(),
        instructions=INSTRUCTIONS,
        tools=list[Any](tools),
        lifespan=lifespan,
        request_state_security=RequestStateSecurity(
            keys=derive_keys(settings, b"holdfast request state"),
            bind_principal=_current_subject_id,
        ),
        subscriptions=False,  # SubscriptionListener serves them: it knows callers and tasks
        extensions=[TasksExtension(task_source)],
        cache_hints=_CACHE_HINTS,
        middleware=[
            observe_calls(metrics, get_app),
            shorten_errors,
            reject_unknown_names(tools, prompts),
            hide_unusable_tools(tools),
            adapt_instructions(catalog),
            hide_unselected(catalog),  # inside the one before: that drops what is said twice
            resources.list_newest_jobs,
            resources.name_media_type,
            SubscriptionListener(job_tasks),
        ],
    )
    resources.register_resources(server)
    register_help(server, help_page)
    for prompt in prompts:
        server.add_prompt(prompt)
    complete: Any = server.completion  # the SDK leaves it untyped
    complete()(build_completion_handler(get_app, prompts))
    return server


def _build_transport(
    server: MCPServer[App], *, json_response: bool
) -> StreamableHTTPSessionManager:
    # McpEndpoint checks what these settings guard, before it looks at the token.
    server.streamable_http_app(
        stateless_http=True,
        json_response=json_response,
        max_request_body_size=MAX_BODY_BYTES,
        host="0.0.0.0",  # noqa: S104  # binds nothing; turns the SDK's own Host check off
    )
    return server.session_manager


def _current_subject_id(_: object) -> str | None:
    caller = CURRENT_CALLER.get()
    return caller.subject_id if caller else None
