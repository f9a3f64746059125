"""Fixtures of the external authorization server: one that runs, and our trust in it."""

from collections.abc import AsyncGenerator, Generator
from datetime import timedelta

import httpx2
import pytest
from joserfc.jwk import ECKey, RSAKey

from schema.accounts.vault import Secret
from schema.common.errors import Unauthenticated
from service.auth.issuer_metadata import Publisher
from service.auth.jwks import Jwks
from service.auth.jwt_verifier import ExternalAuthority
from tests.service.auth.authorization_server import (
    AUDIENCE,
    AuthorizationServer,
    Host,
    hosting,
)

LEEWAY = timedelta(seconds=30)


async def refused(authority: ExternalAuthority, token: Secret) -> Unauthenticated:
    """Return why a token is refused, which never repeats it."""
    with pytest.raises(Unauthenticated) as refusal:
        await authority.verify(token)
    assert not any(part in str(refusal.value) for part in token.reveal().split(".") if part[3:])
    return refusal.value


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, time: timedelta) -> None:
        """Let time pass."""
        self.seconds += time.total_seconds()


@pytest.fixture
def clock() -> Clock:
    """The clock by which keys grow old."""
    return Clock()


@pytest.fixture(scope="session")
def rsa_key() -> RSAKey:
    """Made once; they take a while."""
    return RSAKey.generate_key(2048, {"use": "sig", "kid": "rsa"})


@pytest.fixture(scope="session")
def host() -> Generator[Host]:
    """A port for them all."""
    with hosting() as running:
        yield running


@pytest.fixture
def server(host: Host, rsa_key: RSAKey) -> Generator[AuthorizationServer]:
    """An authorization server with a key of each common kind."""
    ec_key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": "ec"})
    with host.of(ec_key, rsa_key) as running:
        yield running


@pytest.fixture
async def session() -> AsyncGenerator[httpx2.AsyncClient]:
    """What its documents are fetched with."""
    async with httpx2.AsyncClient() as opened:
        yield opened


@pytest.fixture
def authority(
    server: AuthorizationServer, session: httpx2.AsyncClient, clock: Clock
) -> ExternalAuthority:
    """Our trust in that server, which nobody has called on yet."""
    publisher = Publisher(session, server.issuer, f"{server.url}/jwks")
    keys = Jwks(publisher, server.issuer, clock=clock)
    return ExternalAuthority(keys, issuer=server.issuer, audience=AUDIENCE, leeway=LEEWAY)
