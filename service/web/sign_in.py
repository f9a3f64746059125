"""The part of the composition root that is about sign-in: who verifies callers, and the pages.

With an application of the operator's at the authorization server, clients sign in by it (the
proxy). With another one at the Hub, a person connects their account there, once.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

import httpx2
from pydantic import SecretStr
from starlette.routing import Route

from schema.accounts.vault import Secret, Vault
from schema.common.http import loopback_aliases
from schema.hub.oauth.upstream import Application, IssuerMetadata, UpstreamServer
from schema.settings import Settings
from service.auth.authenticators import Authenticator, ExternalAuthenticator, HubAuthenticator
from service.auth.caller import ACTING_SCOPES, Scope
from service.auth.connected_accounts import ConnectedAccounts
from service.auth.hub_client import HubAccountClient
from service.auth.jwt_verifier import open_jwt_verifier
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from service.http.connect.flow import ConnectFlow, ConnectServices
from service.http.connect.routes import HUB_PATH, SIGN_IN_PATH, ConnectPages
from service.http.sign_in_proxy.provider import ProxyKeys, SignInProxy
from service.http.sign_in_proxy.routes import build_mirror_route, build_proxy_routes
from service.runtime.sealed_tokens import SealedTokens, derive_keys
from service.web.account_pages import (
    SIGN_IN_PATH as SIGN_IN_PAGE,
)
from service.web.account_pages import (
    AccountPages,
    build_account_routes,
    build_missing_routes,
)
from service.web.browser_sign_in import CALLBACK_PATH, BrowserSignIn, SignInServices
from service.web.job_pages import JobPages
from service.web.sessions import Sessions

_CONNECT_PATH: Final = "/connect"
_NO_APPLICATION: Final = (
    "The operator of this service has not set up a sign-in for its pages: it needs an application "
    "at Hugging Face, in HOLDFAST_HF_OAUTH_CLIENT_ID. Clients sign in by themselves."
)


@dataclass(frozen=True, slots=True)
class ServiceUrls:
    """The addresses that others compare letter by letter, without a trailing slash."""

    public: str
    hub: str
    issuer: str
    """As the authorization server writes its own name, slash or not."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the addresses from the settings."""
        hub = str(settings.hub_url).rstrip("/")
        issuer = settings.jwt_issuer or hub if settings.auth == "jwt" else hub
        return cls(str(settings.public_url).rstrip("/"), hub, issuer)


@dataclass(frozen=True, slots=True)
class OpenedSignIn:
    """What verifies a caller, and the pages of connecting an account."""

    authenticator: Authenticator
    connect_pages: ConnectPages | None = None
    """None: the operator has no application at the Hub."""
    account_pages: AccountPages | None = None
    """None: the same, or people sign in at another authorization server."""


def build_sign_in_routes(
    settings: Settings, urls: ServiceUrls, session: httpx2.AsyncClient
) -> list[Route]:
    """Build what clients find at our own origin: a sign-in of ours, or the issuer's metadata."""
    metadata = IssuerMetadata(session, urls.issuer, settings.oauth_metadata)
    if settings.oauth_client_id is None:
        return [build_mirror_route(metadata)]
    scopes, resources = sign_in_scopes(settings), settings.token_audiences
    upstream = _build_upstream(
        settings,
        metadata,
        session,
        client_id=settings.oauth_client_id,
        redirect_url=f"{urls.public}/oauth/callback",
    )
    keys = ProxyKeys(
        *(
            SealedTokens(derive_keys(settings, purpose))
            for purpose in (
                b"holdfast sign-in client",
                b"holdfast sign-in request",
                b"holdfast sign-in grant",
            )
        )
    )
    proxy = SignInProxy(
        upstream,
        keys,
        public_url=urls.public,
        scopes=scopes,
        resources=(*resources, *loopback_aliases(f"{urls.public}/mcp")),
    )
    return build_proxy_routes(proxy, {"scopes_supported": scopes})


@asynccontextmanager
async def open_sign_in(
    settings: Settings,
    urls: ServiceUrls,
    session: httpx2.AsyncClient,
    *,
    token_verifier: TokenVerifier,
    hub_accounts: HubAccountClient,
    database: TenantDatabase,
    vault: Vault,
) -> AsyncGenerator[OpenedSignIn]:
    """Open what verifies callers.

    Args:
        session: for calls to authorization servers.
    """
    if settings.auth == "huggingface" or settings.jwt_issuer is None:
        hub_sign_in = _open_browser_sign_in(
            settings,
            urls,
            session,
            token_verifier=token_verifier,
            hub_accounts=hub_accounts,
            database=database,
            vault=vault,
        )
        yield OpenedSignIn(HubAuthenticator(token_verifier), account_pages=hub_sign_in)
        return
    async with open_jwt_verifier(
        issuer=settings.jwt_issuer,
        audiences=settings.token_audiences,
        jwks_url=settings.jwt_jwks_url,
        leeway=settings.jwt_leeway,
    ) as jwt_verifier:
        accounts = pages = None
        if settings.oauth_client_id is not None and settings.hf_oauth_client_id is not None:
            hub = UpstreamServer(
                session,
                IssuerMetadata(session, urls.hub, {}),
                Application(
                    client_id=settings.hf_oauth_client_id,
                    client_secret=_as_secret(settings.hf_oauth_client_secret),
                    redirect_url=f"{urls.public}{HUB_PATH}",
                ),
                audience=None,
            )
            accounts = ConnectedAccounts(
                database,
                vault,
                token_verifier,
                hub,
                connect_url=f"{urls.public}{_CONNECT_PATH}",
            )
            services = ConnectServices(
                sign_in=_build_upstream(
                    settings,
                    IssuerMetadata(session, urls.issuer, settings.oauth_metadata),
                    session,
                    client_id=settings.oauth_client_id,
                    redirect_url=f"{urls.public}{SIGN_IN_PATH}",
                ),
                hub=hub,
                jwt_verifier=jwt_verifier,
                hub_accounts=hub_accounts,
                database=database,
                vault=vault,
                seals=SealedTokens(derive_keys(settings, b"holdfast connect")),
                scopes=sign_in_scopes(settings),
                required_scopes=settings.required_scopes,
                hub_scopes=settings.hf_oauth_scopes,
                resource=settings.token_audiences[0],
            )
            pages = ConnectPages(ConnectFlow(services), urls.public)
        authenticator = ExternalAuthenticator(
            jwt_verifier,
            token_verifier,
            scope_names=scope_names(settings),
            required_scopes=settings.required_scopes,
            connected_accounts=accounts,
        )
        yield OpenedSignIn(authenticator, pages)


def build_sessions(settings: Settings, urls: ServiceUrls) -> Sessions:
    """Build what reads and writes the cookies of sessions."""
    seals = SealedTokens(derive_keys(settings, b"holdfast session"))
    return Sessions(seals, is_https=urls.public.startswith("https://"))


def _open_browser_sign_in(
    settings: Settings,
    urls: ServiceUrls,
    session: httpx2.AsyncClient,
    *,
    token_verifier: TokenVerifier,
    hub_accounts: HubAccountClient,
    database: TenantDatabase,
    vault: Vault,
) -> AccountPages | None:
    """Build the pages of signing in with Hugging Face; None without an application there."""
    if settings.hf_oauth_client_id is None:
        return None
    hub = UpstreamServer(
        session,
        IssuerMetadata(session, urls.hub, {}),
        Application(
            client_id=settings.hf_oauth_client_id,
            client_secret=_as_secret(settings.hf_oauth_client_secret),
            redirect_url=f"{urls.public}{CALLBACK_PATH}",
        ),
        audience=None,
    )
    services = SignInServices(
        hub=hub,
        hub_accounts=hub_accounts,
        accounts=ConnectedAccounts(
            database,
            vault,
            token_verifier,
            hub,
            connect_url=f"{urls.public}{SIGN_IN_PAGE}",
        ),
        database=database,
        vault=vault,
        seals=SealedTokens(derive_keys(settings, b"holdfast browser sign-in")),
        scopes=settings.hf_oauth_scopes,
    )
    sessions = build_sessions(settings, urls)
    return AccountPages(BrowserSignIn(services, sessions), sessions, urls.public)


def build_page_routes(
    settings: Settings,
    urls: ServiceUrls,
    get_pages: Callable[[], AccountPages],
    job_pages: JobPages,
) -> list[Route]:
    """Build the pages that need somebody, or those that say why nobody can sign in.

    Args:
        settings: of the deployment.
        urls: of the service and its servers.
        get_pages: called with each request; the pages are opened after the routes.
        job_pages: what people see who have signed in.
    """
    if settings.auth == "jwt":
        sentence = f"This service signs people in at {urls.issuer}, which its pages cannot do yet."
        if settings.connects_accounts:
            link, text = _CONNECT_PATH, "Connect your account"
            return build_missing_routes(
                f"{sentence} Connect your account once instead.", link, text
            )
        return build_missing_routes(sentence, "/#connect", "Connect a client")
    if settings.hf_oauth_client_id is None:
        return build_missing_routes(_NO_APPLICATION, "/#connect", "Connect a client")
    return [*build_account_routes(get_pages), *job_pages.routes(get_pages)]


def sign_in_scopes(settings: Settings) -> tuple[str, ...]:
    """Return the scopes that clients ask the authorization server for."""
    if settings.auth == "huggingface":
        # An application of the operator's may ask for what it has been given.
        if settings.oauth_client_id is not None:
            return settings.hf_oauth_scopes
        return ("openid", "profile", *Scope)
    # Another authorization server knows no scopes for what is at the Hub.
    return tuple(dict.fromkeys((*settings.required_scopes, *scope_names(settings).values())))


def scope_names(settings: Settings) -> dict[Scope, str]:
    """Return what the authorization server calls each scope that it decides about."""
    own_names = {scope: str(scope) for scope in ACTING_SCOPES}
    return own_names | {Scope(scope): name for scope, name in settings.jwt_scopes.items()}


def _build_upstream(
    settings: Settings,
    metadata: IssuerMetadata,
    session: httpx2.AsyncClient,
    *,
    client_id: str,
    redirect_url: str,
) -> UpstreamServer:
    return UpstreamServer(
        session,
        metadata,
        Application(
            client_id=client_id,
            client_secret=_as_secret(settings.oauth_client_secret),
            redirect_url=redirect_url,
        ),
        audience=settings.token_audiences[0] if settings.auth == "jwt" else None,
    )


def _as_secret(secret: SecretStr | None) -> Secret | None:
    return None if secret is None else Secret(secret.get_secret_value())
