"""Fixtures of the external authorization server: one that runs, and our trust in it."""

from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest
from joserfc.jwk import ECKey, RSAKey

from schema.hub.oauth.issuer_metadata import IssuerMetadataClient
from service.auth.jwks import JwksCache
from service.auth.jwt_verifier import JwtVerifier
from tests.support.http_clients import AsyncHttpClient
from tests.support.oauth.authorization_server import (
    AUDIENCE,
    LEEWAY,
    AuthorizationServer,
    AuthorizationServerHost,
    ManualClock,
    run_host,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@pytest.fixture
def clock() -> ManualClock:
    """The clock by which keys grow old."""
    return ManualClock()


@pytest.fixture(scope="session")
def rsa_key() -> RSAKey:
    """Made once; they take a while."""
    return RSAKey.generate_key(2048, {"use": "sig", "kid": "rsa"})


@pytest.fixture(scope="session")
def authorization_server_host() -> Generator[AuthorizationServerHost]:
    """A port for them all."""
    with run_host() as running:
        yield running


@pytest.fixture
def authorization_server(
    authorization_server_host: AuthorizationServerHost, rsa_key: RSAKey
) -> Generator[AuthorizationServer]:
    """An authorization server with a key of each common kind."""
    ec_key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": "ec"})
    with authorization_server_host.serve_new(ec_key, rsa_key) as running:
        yield running


@pytest.fixture
async def http_session() -> AsyncGenerator[httpx2.AsyncClient]:
    """What its documents are fetched with."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as opened:
        yield opened


@pytest.fixture
def trusted_authority(
    authorization_server: AuthorizationServer, http_session: httpx2.AsyncClient, clock: ManualClock
) -> JwtVerifier:
    """Our trust in that server, which nobody has called on yet."""
    publisher = IssuerMetadataClient(
        http_session, authorization_server.issuer, f"{authorization_server.url}/jwks"
    )
    keys = JwksCache(publisher, authorization_server.issuer, clock=clock)
    return JwtVerifier(
        keys, issuer=authorization_server.issuer, audiences=(AUDIENCE,), leeway=LEEWAY
    )
