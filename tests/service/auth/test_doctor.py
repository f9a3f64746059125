"""What `holdfast doctor` finds out about the authorization server, before anybody signs in."""

from collections.abc import Callable

from schema.settings import Settings
from service.cli.doctor import check_issuer
from service.local.ports import find_free_port
from tests.support.oauth.authorization_server import AuthorizationServer


async def test_the_keys_of_an_authorization_server_are_counted(
    make_settings: Callable[..., Settings], authorization_server: AuthorizationServer
) -> None:
    """An operator sees that tokens can be verified before the first person tries."""
    settings = make_settings(auth="jwt", jwt_issuer=authorization_server.issuer)

    finding = await check_issuer(settings)

    assert finding.is_ok
    assert finding.message == f"{authorization_server.issuer} publishes 2 usable keys"


async def test_a_server_without_a_usable_key_is_bad(
    make_settings: Callable[..., Settings], authorization_server: AuthorizationServer
) -> None:
    """Each token would be refused, with a sentence that only its person reads."""
    authorization_server.published_jwks = b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'

    finding = await check_issuer(make_settings(auth="jwt", jwt_issuer=authorization_server.issuer))

    assert not finding.is_ok
    assert "publishes 0 usable keys" in finding.message
    assert "Ed25519" in finding.remedy


async def test_a_server_that_does_not_answer_is_bad(
    make_settings: Callable[..., Settings],
) -> None:
    """This used to be well, as nothing looked."""
    issuer = f"http://127.0.0.1:{find_free_port()}"

    finding = await check_issuer(make_settings(auth="jwt", jwt_issuer=issuer))

    assert not finding.is_ok
    assert "nobody can sign in" in finding.message
    assert issuer in finding.message


async def test_an_audience_that_no_client_asks_for_is_named(
    make_settings: Callable[..., Settings], authorization_server: AuthorizationServer
) -> None:
    """Tokens would be for another audience, unless the server adds it as Entra does."""
    settings = make_settings(
        auth="jwt", jwt_issuer=authorization_server.issuer, jwt_audience="api://holdfast"
    )

    finding = await check_issuer(settings)

    assert "has to add the audience api://holdfast by itself" in finding.message
