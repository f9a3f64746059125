"""An authorization server, as the one client that the operator has registered there."""

import base64
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

import anyio
import httpx2
import structlog
from pydantic import BaseModel, ValidationError, field_validator

from schema.accounts.vault import Secret
from schema.common.async_cache import AsyncCache, CacheEntry
from schema.common.errors import Unavailable
from schema.hub.oauth.issuer_metadata import (
    IssuerMetadataClient,
    IssuerMetadataError,
    is_trusted_endpoint,
)

_METADATA_LIFETIME: Final = timedelta(minutes=10)
_RETRY_AFTER: Final = timedelta(seconds=5)
_TIMEOUT_SECONDS: Final = 10.0
REQUEST_LIMIT: Final = timedelta(seconds=12)
"""How long a request may take with all of its answer; a lease on a refresh token is longer."""
_MAX_ANSWER_BYTES: Final = 256 * 1024
_MAX_DESCRIPTION_CHARS: Final = 300
_OUTAGE_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""They say nothing about the token that was sent."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Application:
    """The application that the operator made at the authorization server."""

    client_id: str
    client_secret: Secret | None
    redirect_url: str
    """The only address to which that server sends a person back; empty: nobody is sent there."""


class TokenRefused(Exception):
    """The server refuses a code or a token."""

    def __init__(self, reason: str, description: str | None) -> None:
        """Say what the server has answered.

        Args:
            reason: its own word for why, such as `invalid_grant` (RFC 6749, section 5.2).
            description: its sentence, if there is one.
        """
        super().__init__(reason)
        self.reason = reason
        self.description = description


class TokenAnswer(BaseModel):
    """What a token endpoint gives (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # a kind
    expires_in: int | None = None
    """Seconds."""
    scope: str | None = None
    refresh_token: str | None = None
    id_token: str | None = None
    """Of OpenID Connect; only the sign-in on our pages reads it, for its nonce."""

    @field_validator("token_type", mode="before")
    @classmethod
    def _ignore_case(cls, token_type: object) -> object:
        return token_type.title() if isinstance(token_type, str) else token_type


@dataclass(frozen=True, slots=True)
class ProofKey:
    """A proof key (PKCE): only who has the verifier can redeem the code."""

    verifier: str
    challenge: str

    @classmethod
    def generate(cls) -> Self:
        """Make one for one sign-in."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest())
        return cls(verifier, challenge.decode().rstrip("="))


class UpstreamMetadata(BaseModel):
    """What we use of the metadata of a server (RFC 8414)."""

    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False


class _ErrorAnswer(BaseModel):
    error: str = ""
    error_description: str = ""


class IssuerMetadata:
    """The metadata of an authorization server, with what the operator knows better."""

    def __init__(
        self, session: httpx2.AsyncClient, issuer: str, overrides: Mapping[str, Any]
    ) -> None:
        """Name the server.

        Args:
            session: for calls to it.
            issuer: its name, letter by letter.
            overrides: what is to count instead of its own metadata, or besides.
        """
        self.issuer = issuer
        self._metadata_client = IssuerMetadataClient(session, issuer, None)
        self._overrides = dict(overrides)
        self._cache: AsyncCache[dict[str, Any] | None] = AsyncCache(max_entries=1)

    async def fetch_document(self) -> dict[str, Any]:
        """Return the metadata of the server, with the overrides of the operator.

        Raises:
            Unavailable: the server does not answer.
        """
        document = await self._cache.get_or_load(b"", self._load_document)
        if document is None:
            raise Unavailable(f"The authorization server {self.issuer}", retry_after=_RETRY_AFTER)
        return document

    async def _load_document(self) -> CacheEntry[dict[str, Any] | None]:
        if {"authorization_endpoint", "token_endpoint"} <= self._overrides.keys():
            return CacheEntry({"issuer": self.issuer, **self._overrides}, _METADATA_LIFETIME)
        try:
            document = await self._metadata_client.fetch_metadata()
        except IssuerMetadataError as error:
            log.warning("sign_in.metadata_missing", why=str(error))
            return CacheEntry(None, _RETRY_AFTER)
        return CacheEntry(document | self._overrides, _METADATA_LIFETIME)


class UpstreamServer:
    """Sends people to the authorization server, and gets their tokens there."""

    def __init__(
        self,
        session: httpx2.AsyncClient,
        metadata: IssuerMetadata,
        application: Application,
        *,
        audience: str | None,
        request_limit: timedelta = REQUEST_LIMIT,
    ) -> None:
        """Name the server.

        Args:
            session: for calls to it.
            metadata: of the server.
            application: whose client we are there.
            audience: sent as the parameter `audience`, by which Auth0 chooses an API.
            request_limit: how long a request for tokens may take, however slowly it is answered.
        """
        self.issuer = metadata.issuer
        self.application = application
        self._session = session
        self._metadata = metadata
        self._audience = audience
        self._request_limit = request_limit

    async def fetch_metadata(self) -> UpstreamMetadata:
        """Return what the proxy needs of the metadata.

        Raises:
            Unavailable: the server does not answer, or names no endpoint that can be trusted.
        """
        try:
            metadata = UpstreamMetadata.model_validate(await self._metadata.fetch_document())
        except ValidationError as error:
            log.warning("sign_in.metadata_incomplete", issuer=self.issuer, why=str(error))
            raise Unavailable(f"The authorization server {self.issuer}") from None
        for url in (
            *(metadata.authorization_endpoint, metadata.token_endpoint),
            *filter(None, (metadata.revocation_endpoint,)),
        ):
            if not is_trusted_endpoint(url, self.issuer):
                log.warning("sign_in.endpoint_insecure", issuer=self.issuer, url=url)
                raise Unavailable(f"The authorization server {self.issuer}")
        return metadata

    async def is_own_answer(self, issuer: str | None) -> bool:
        """Say whether an answer in a browser is of this server, and not of another (RFC 9207).

        Args:
            issuer: the parameter `iss` of the answer.
        """
        if issuer is not None:
            return issuer == self.issuer
        try:
            metadata = await self.fetch_metadata()
        except Unavailable:
            return False
        return not metadata.authorization_response_iss_parameter_supported

    async def build_authorization_url(
        self,
        *,
        state: str,
        code_challenge: str,
        scopes: Sequence[str],
        resource: str | None,
        nonce: str | None = None,
    ) -> str:
        """Return where a person signs in.

        Args:
            state: comes back with the answer.
            code_challenge: of the proof key.
            scopes: what the person is asked to grant.
            resource: what the access token is for; None: the server does not know of it.
            nonce: comes back in the ID token.

        Raises:
            Unavailable: the server does not answer.
        """
        metadata = await self.fetch_metadata()
        parameters = {
            "response_type": "code",
            "client_id": self.application.client_id,
            "redirect_uri": self.application.redirect_url,
            "scope": " ".join(scopes),
            "state": state,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
            **self._target(resource),
            **({} if nonce is None else {"nonce": nonce}),
        }
        separator = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(parameters)}"

    async def redeem_code(self, code: str, verifier: str, resource: str | None) -> TokenAnswer:
        """Exchange an authorization code.

        Raises:
            TokenRefused: the server refuses it.
            Unavailable: the server does not answer.
        """
        return await self._request_token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": self.application.redirect_url,
                **self._target(resource),
            }
        )

    async def refresh_token(
        self, refresh_token: str, scopes: Sequence[str], resource: str | None
    ) -> TokenAnswer:
        """Exchange a refresh token.

        Raises:
            TokenRefused: the server refuses it.
            Unavailable: the server does not answer.
        """
        scope = {"scope": " ".join(scopes)} if scopes else {}
        return await self._request_token(
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                **scope,
                **self._target(resource),
            }
        )

    async def revoke_token(self, token: Secret) -> bool:
        """Revoke a refresh token, and what came of it (RFC 7009).

        Returns:
            Whether the server has done so; many, such as the Hub, have no such endpoint.
        """
        form = {"token": token.reveal(), "token_type_hint": "refresh_token"}
        try:
            with self._limit_request():
                metadata = await self.fetch_metadata()
                if metadata.revocation_endpoint is None:
                    return False
                status, _ = await self._post(metadata, metadata.revocation_endpoint, form)
        except Unavailable:
            return False
        return status == HTTPStatus.OK

    def _target(self, resource: str | None) -> dict[str, str]:
        target = {"resource": resource, "audience": self._audience}
        return {name: value for name, value in target.items() if value is not None}

    async def _request_token(self, form: dict[str, str]) -> TokenAnswer:
        with self._limit_request():
            metadata = await self.fetch_metadata()
            status, body = await self._post(metadata, metadata.token_endpoint, form)
        return self._read_token(status, body)

    @contextmanager
    def _limit_request(self) -> Generator[None]:
        """Bound the whole of a request: the timeout of the client is for each read of its answer.

        Raises:
            Unavailable: it took too long.
        """
        try:
            with anyio.fail_after(self._request_limit.total_seconds()):
                yield
        except TimeoutError:
            log.warning("sign_in.token_endpoint_failed", error="TimeoutError")
            raise Unavailable(
                f"The authorization server {self.issuer}", retry_after=_RETRY_AFTER
            ) from None

    async def _post(
        self, metadata: UpstreamMetadata, url: str, form: dict[str, str]
    ) -> tuple[int, bytes]:
        headers, identification = self._identify(metadata)
        body = bytearray()
        try:
            async with self._session.stream(
                "POST",
                url,
                data=form | identification,
                headers={"accept": "application/json", "accept-encoding": "identity", **headers},
                timeout=_TIMEOUT_SECONDS,
                follow_redirects=False,
            ) as response:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        break
        except httpx2.HTTPError as error:
            log.warning("sign_in.token_endpoint_failed", error=type(error).__name__)
            raise Unavailable(
                f"The authorization server {self.issuer}", retry_after=_RETRY_AFTER
            ) from None
        return response.status_code, bytes(body[:_MAX_ANSWER_BYTES])

    def _identify(self, metadata: UpstreamMetadata) -> tuple[dict[str, str], dict[str, str]]:
        """Return the headers and the form fields that say which application this is."""
        client_id, secret = self.application.client_id, self.application.client_secret
        if secret is None:
            return {}, {"client_id": client_id}
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            pair = f"{quote(client_id, safe='')}:{quote(secret.reveal(), safe='')}"
            return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
        return {}, {"client_id": client_id, "client_secret": secret.reveal()}

    def _read_token(self, status: int, body: bytes) -> TokenAnswer:
        if status == HTTPStatus.OK:
            try:
                return TokenAnswer.model_validate_json(body)
            except ValidationError:
                log.warning("sign_in.token_unreadable", issuer=self.issuer)
                raise Unavailable(f"The authorization server {self.issuer}") from None
        try:
            answer = _ErrorAnswer.model_validate_json(body)
        except ValidationError:
            answer = _ErrorAnswer()
        is_outage = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _OUTAGE_STATUSES
        if is_outage or not answer.error:
            log.warning("sign_in.token_endpoint_failed", status=status)
            raise Unavailable(f"The authorization server {self.issuer}", retry_after=_RETRY_AFTER)
        log.warning("sign_in.token_refused", issuer=self.issuer, error=answer.error[:100])
        # `invalid_client` is about our application: the client that asks could not mend it.
        if answer.error == "invalid_client":
            raise Unavailable(f"The authorization server {self.issuer}")
        description = answer.error_description[:_MAX_DESCRIPTION_CHARS] or None
        raise TokenRefused(answer.error, description)
