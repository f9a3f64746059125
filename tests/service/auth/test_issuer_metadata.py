"""Where the keys of an authorization server are found, and whose word on that is taken."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey

from schema.common.errors import Unavailable
from schema.hub.oauth.issuer_metadata import IssuerMetadataClient, is_trusted_endpoint
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
def discover_authority(
    authorization_server: AuthorizationServer, http_session: httpx2.AsyncClient, clock: ManualClock
) -> DiscoverAuthority:
    """Trust that server by its name alone."""

    def trust() -> JwtVerifier:
        keys = JwksCache(
            IssuerMetadataClient(http_session, authorization_server.issuer, None),
            authorization_server.issuer,
            clock=clock,
        )
        return JwtVerifier(
            keys, issuer=authorization_server.issuer, audiences=(AUDIENCE,), leeway=LEEWAY
        )

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
    authorization_server: AuthorizationServer,
    discover_authority: DiscoverAuthority,
    path: str,
    known_as: str,
) -> None:
    """RFC 8414 and OpenID put the metadata in different places; Auth0's name ends in a slash."""
    authorization_server.issuer_path, authorization_server.metadata_paths = path, (known_as,)

    assert await discover_authority().verify(authorization_server.issue_token())


@pytest.mark.parametrize(
    "overrides",
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
    authorization_server: AuthorizationServer,
    discover_authority: DiscoverAuthority,
    overrides: dict[str, Any],
) -> None:
    """One host may serve another's metadata (RFC 8414, section 3.3), or be led astray."""
    authorization_server.metadata_overrides = overrides

    with pytest.raises(Unavailable):
        await discover_authority().verify(authorization_server.issue_token())
    assert authorization_server.jwks_fetch_count == 0


async def test_metadata_that_cannot_be_used_does_not_hide_what_can(
    authorization_server: AuthorizationServer, discover_authority: DiscoverAuthority
) -> None:
    """RFC 8414 makes jwks_uri optional; OpenID does not."""
    authorization_server.metadata_paths = ("/.well-known/openid-configuration",)

    assert await discover_authority().verify(authorization_server.issue_token())
    assert authorization_server.requested_paths == [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/jwks",
    ]


async def test_keys_that_anybody_could_change_on_the_way_are_not_fetched(
    authorization_server: AuthorizationServer, discover_authority: DiscoverAuthority
) -> None:
    """They answer, and they are right this time."""
    plain = authorization_server.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104  # an address that is not ours
    authorization_server.metadata_overrides = {"jwks_uri": f"{plain}/jwks"}

    with pytest.raises(Unavailable):
        await discover_authority().verify(authorization_server.issue_token())
    assert authorization_server.jwks_fetch_count == 0


async def test_keys_that_have_moved_are_found_again(
    authorization_server: AuthorizationServer,
    discover_authority: DiscoverAuthority,
    clock: ManualClock,
) -> None:
    """Where they are is asked once, and once more when they are not there."""
    authority = discover_authority()
    await authority.verify(authorization_server.issue_token())
    authorization_server.jwks_path = "/moved"
    authorization_server.keys.insert(0, ECKey.generate_key("P-256", {"kid": "new"}))

    clock.advance(RETRY_AFTER)
    with pytest.raises(Unavailable):
        await authority.verify(authorization_server.issue_token())
    clock.advance(RETRY_AFTER)
    assert await authority.verify(authorization_server.issue_token())

    metadata = "/.well-known/oauth-authorization-server"
    assert authorization_server.requested_paths == [metadata, "/jwks", "/jwks", metadata, "/moved"]


async def test_a_server_that_is_not_there_is_an_outage(
    http_session: httpx2.AsyncClient, authorization_server: AuthorizationServer
) -> None:
    """Nothing listens at the port; that is for later, and for the operator."""
    nowhere = IssuerMetadataClient(
        http_session, authorization_server.issuer, "http://127.0.0.1:1/jwks"
    )
    authority = JwtVerifier(
        JwksCache(nowhere, authorization_server.issuer),
        issuer=authorization_server.issuer,
        audiences=(AUDIENCE,),
        leeway=LEEWAY,
    )

    with pytest.raises(Unavailable, match=r"The authorization server http://.* cannot be reached"):
        await authority.verify(authorization_server.issue_token())


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("http://authgent:8080/jwks", "https://authgent:8080"),
        ("http://elsewhere:8080/jwks", "http://authgent:8080"),
        ("http://authgent.example/jwks", "http://authgent:8080"),
    ],
)
def test_http_is_followed_only_to_the_host_that_the_operator_allowed(url: str, issuer: str) -> None:
    """Whoever is between us and that address would choose the keys."""
    assert not is_trusted_endpoint(url, issuer)
    assert is_trusted_endpoint(url.replace("http:", "https:"), issuer)
    assert is_trusted_endpoint("http://authgent:9090/jwks", "http://authgent:8080")
