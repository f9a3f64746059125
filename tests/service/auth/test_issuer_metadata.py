"""Where the keys of an authorization server are found, and whose word on that is taken."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey

from schema.common.errors import Unavailable
from service.auth.issuer_metadata import IssuerMetadataClient
from service.auth.jwks import RETRY_AFTER, JwksCache
from service.auth.jwt_verifier import JwtVerifier
from tests.support.oauth.authorization_server import (
    AUDIENCE,
    LEEWAY,
    AuthorizationServer,
    ManualClock,
)

DiscoverAuthority = Callable[[], JwtVerifier]


@pytest.fixture
def discover(
    server: AuthorizationServer, session: httpx2.AsyncClient, clock: ManualClock
) -> DiscoverAuthority:
    """Trust that server by its name alone."""

    def trust() -> JwtVerifier:
        keys = JwksCache(
            IssuerMetadataClient(session, server.issuer, None), server.issuer, clock=clock
        )
        return JwtVerifier(keys, issuer=server.issuer, audience=AUDIENCE, leeway=LEEWAY)

    return trust


@pytest.mark.parametrize(
    ("path", "known_as"),
    [
        ("", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/", "/.well-known/openid-configuration"),
        ("/realms/a", "/.well-known/oauth-authorization-server/realms/a"),
        ("/realms/a", "/.well-known/openid-configuration/realms/a"),
        ("/realms/a", "/realms/a/.well-known/openid-configuration"),
    ],
)
async def test_the_name_of_a_server_is_enough_to_find_its_keys(
    server: AuthorizationServer, discover: DiscoverAuthority, path: str, known_as: str
) -> None:
    """RFC 8414 and OpenID put the metadata in different places; Auth0's name ends in a slash."""
    server.issuer_path, server.metadata_paths = path, (known_as,)

    assert await discover().verify(server.issue_token())


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": "http://keys.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://[bad"},
        {"jwks_uri": None},
    ],
)
async def test_metadata_that_is_not_the_servers_own_leads_nowhere(
    server: AuthorizationServer, discover: DiscoverAuthority, said: dict[str, Any]
) -> None:
    """One host may serve another's metadata (RFC 8414, section 3.3), or be led astray."""
    server.metadata_overrides = said

    with pytest.raises(Unavailable):
        await discover().verify(server.issue_token())
    assert server.jwks_fetch_count == 0


async def test_metadata_that_cannot_be_used_does_not_hide_what_can(
    server: AuthorizationServer, discover: DiscoverAuthority
) -> None:
    """RFC 8414 makes jwks_uri optional; OpenID does not."""
    server.metadata_paths = ("/.well-known/openid-configuration",)

    assert await discover().verify(server.issue_token())
    assert server.requested_paths == [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/jwks",
    ]


async def test_keys_that_anybody_could_change_on_the_way_are_not_fetched(
    server: AuthorizationServer, discover: DiscoverAuthority
) -> None:
    """They answer, and they are right this time."""
    plain = server.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104  # an address that is not ours
    server.metadata_overrides = {"jwks_uri": f"{plain}/jwks"}

    with pytest.raises(Unavailable):
        await discover().verify(server.issue_token())
    assert server.jwks_fetch_count == 0


async def test_keys_that_have_moved_are_found_again(
    server: AuthorizationServer, discover: DiscoverAuthority, clock: ManualClock
) -> None:
    """Where they are is asked once, and once more when they are not there."""
    authority = discover()
    await authority.verify(server.issue_token())
    server.jwks_path = "/moved"
    server.keys.insert(0, ECKey.generate_key("P-256", {"kid": "new"}))

    clock.advance(RETRY_AFTER)
    with pytest.raises(Unavailable):
        await authority.verify(server.issue_token())
    clock.advance(RETRY_AFTER)
    assert await authority.verify(server.issue_token())

    metadata = "/.well-known/oauth-authorization-server"
    assert server.requested_paths == [metadata, "/jwks", "/jwks", metadata, "/moved"]


async def test_a_server_that_is_not_there_is_an_outage(
    session: httpx2.AsyncClient, server: AuthorizationServer
) -> None:
    """Nothing listens at the port; that is for later, and for the operator."""
    nowhere = IssuerMetadataClient(session, server.issuer, "http://127.0.0.1:1/jwks")
    authority = JwtVerifier(
        JwksCache(nowhere, server.issuer), issuer=server.issuer, audience=AUDIENCE, leeway=LEEWAY
    )

    with pytest.raises(Unavailable, match=r"The authorization server http://.* cannot be reached"):
        await authority.verify(server.issue_token())
