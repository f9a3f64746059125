"""Tests of the key cache: which keys it trusts, for how long, and how often it fetches them."""

import json
from datetime import timedelta
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.jwk import ECKey, RSAKey
from starlette.responses import RedirectResponse, Response

from schema.accounts.vault import Secret
from schema.common.errors import Unavailable
from service.auth.jwks import REFRESH_AFTER, RETRY_AFTER, USABLE_WITHOUT_ANSWER
from service.auth.jwt_verifier import JwtVerifier
from tests.support.oauth.authorization_server import (
    AuthorizationServer,
    ManualClock,
    assert_refused,
    forge_token,
    sign_token,
)

SHORT_PAUSE = timedelta(seconds=0.1)


def new_key(kid: str = "new") -> ECKey:
    """Make a key nobody has published yet."""
    return ECKey.generate_key("P-256", {"kid": kid})


def bad_gateway_response() -> Response:
    """Answer like a proxy whose server is gone."""
    return Response(status_code=503)


async def test_keys_are_fetched_once_for_everybody(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A burst of callers is one question, and for a minute there is no other."""
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(trusted_authority.verify, authorization_server.issue_token())
    await trusted_authority.verify(
        authorization_server.issue_token(key=authorization_server.keys[1])
    )

    assert authorization_server.jwks_fetch_count == 1


async def test_a_new_key_is_believed_as_soon_as_it_signs(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """Servers rotate without telling; nobody restarts us for it."""
    await trusted_authority.verify(authorization_server.issue_token())
    clock.advance(RETRY_AFTER)
    authorization_server.keys.insert(0, new_key())

    assert await trusted_authority.verify(authorization_server.issue_token())
    assert authorization_server.jwks_fetch_count == 2


async def test_a_key_that_was_taken_back_is_believed_for_a_minute_at_most(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """It may have been stolen."""
    token = authorization_server.issue_token()
    await trusted_authority.verify(token)
    authorization_server.keys = [new_key()]

    clock.advance(timedelta(seconds=60) - SHORT_PAUSE)
    assert await trusted_authority.verify(token)
    clock.advance(SHORT_PAUSE)
    assert "may have been replaced" in str(await assert_refused(trusted_authority, token))


async def test_made_up_kids_are_looked_for_once_in_five_seconds(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """Else anyone could flood the authorization server through us."""
    impostors = [authorization_server.issue_token(key=new_key(f"made-up-{n}")) for n in range(50)]

    async with anyio.create_task_group() as tasks:
        for token in impostors:
            tasks.start_soon(assert_refused, trusted_authority, token)
    clock.advance(RETRY_AFTER - SHORT_PAUSE)
    for token in impostors:
        await assert_refused(trusted_authority, token)
    assert authorization_server.jwks_fetch_count == 1

    clock.advance(SHORT_PAUSE)
    for token in impostors:
        await assert_refused(trusted_authority, token)
    assert authorization_server.jwks_fetch_count == 2


async def test_known_keys_do_not_wait_for_a_made_up_one(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """While we look for it, everybody else is served."""
    await trusted_authority.verify(authorization_server.issue_token())
    clock.advance(RETRY_AFTER)
    authorization_server.jwks_gate.clear()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                assert_refused, trusted_authority, authorization_server.issue_token(key=new_key())
            )
            await anyio.wait_all_tasks_blocked()
            assert await trusted_authority.verify(authorization_server.issue_token())
            authorization_server.jwks_gate.set()


async def test_who_leaves_while_keys_are_fetched_leaves_them_to_the_others(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A client that hangs up cannot make us ask again and again."""
    authorization_server.jwks_gate.clear()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trusted_authority.verify, authorization_server.issue_token())
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            authorization_server.jwks_gate.set()
        await trusted_authority.verify(authorization_server.issue_token())

    assert authorization_server.jwks_fetch_count == 1


async def test_without_keys_nobody_is_let_in_or_turned_away(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """The server is down when we start; a token we cannot verify is neither right nor wrong."""
    authorization_server.failure_response = bad_gateway_response()
    for _ in range(3):
        with pytest.raises(Unavailable) as silence:
            await trusted_authority.verify(authorization_server.issue_token())
        assert silence.value.retry_after == RETRY_AFTER
    assert authorization_server.jwks_fetch_count == 1

    authorization_server.failure_response = None
    clock.advance(RETRY_AFTER)
    assert await trusted_authority.verify(authorization_server.issue_token())


async def test_an_outage_of_the_server_is_not_ours(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """The last good keys serve for ten minutes; a kid they lack may be one we could not fetch."""
    await trusted_authority.verify(authorization_server.issue_token())
    authorization_server.failure_response = bad_gateway_response()

    clock.advance(REFRESH_AFTER)
    assert await trusted_authority.verify(authorization_server.issue_token())
    with pytest.raises(Unavailable):
        await trusted_authority.verify(authorization_server.issue_token(key=new_key()))
    clock.advance(USABLE_WITHOUT_ANSWER - REFRESH_AFTER - SHORT_PAUSE)
    assert await trusted_authority.verify(authorization_server.issue_token())
    clock.advance(SHORT_PAUSE)
    with pytest.raises(Unavailable):
        await trusted_authority.verify(authorization_server.issue_token())


async def test_an_outage_does_not_let_a_stranger_in(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """What is kept is the keys, not the trust."""
    await trusted_authority.verify(authorization_server.issue_token())
    authorization_server.failure_response = bad_gateway_response()
    clock.advance(REFRESH_AFTER)

    await assert_refused(trusted_authority, authorization_server.issue_token(key=new_key("ec")))


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>"),
        Response('{"keys": 7}'),
        Response('{"keys": {}}'),
        Response("[" * 100_000),
        Response(b"\xff"),
        Response('{"keys": []}' + " " * 256 * 1024),
        RedirectResponse("/elsewhere"),
        Response('{"keys": []}', status_code=500),
    ],
)
async def test_what_is_not_a_set_of_keys_is_an_outage(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    clock: ManualClock,
    answer: Response,
) -> None:
    """A captive portal, a proxy's error page or a flood takes no key from us, and gives none."""
    await trusted_authority.verify(authorization_server.issue_token())
    authorization_server.failure_response = answer
    clock.advance(REFRESH_AFTER)

    assert await trusted_authority.verify(authorization_server.issue_token())
    assert authorization_server.jwks_fetch_count == 2
    assert "/elsewhere" not in authorization_server.requested_paths


async def test_a_set_without_keys_takes_them_all_back(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier, clock: ManualClock
) -> None:
    """That is how a server says that they are all lost."""
    await trusted_authority.verify(authorization_server.issue_token())
    authorization_server.published_jwks = b'{"keys": []}'
    clock.advance(REFRESH_AFTER)

    await assert_refused(trusted_authority, authorization_server.issue_token())


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"alg": "RSA-OAEP"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"kty": "EC"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": 7},
        {"n": None},
        {"n": "!"},
        {"e": "AA"},
        {"kid": ["rsa"]},
    ],
)
async def test_a_key_that_is_not_for_signatures_verifies_none(
    authorization_server: AuthorizationServer,
    trusted_authority: JwtVerifier,
    rsa_key: RSAKey,
    change: dict[str, Any],
) -> None:
    """And it does not spoil the others."""
    odd = {**rsa_key.as_dict(private=False), **change}
    authorization_server.published_jwks = json.dumps(
        {"keys": [odd, authorization_server.keys[0].as_dict(private=False)]}
    ).encode()

    await assert_refused(
        trusted_authority,
        sign_token({"alg": "RS256", "kid": "rsa"}, authorization_server.make_payload(), rsa_key),
    )
    assert await trusted_authority.verify(authorization_server.issue_token())


async def test_a_private_key_that_was_published_verifies_as_its_public_half(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """A grave mistake, but not ours; and there is no secret in our memory."""
    authorization_server.published_jwks = json.dumps(
        {"keys": [authorization_server.keys[0].as_dict(private=True)]}
    ).encode()

    assert await trusted_authority.verify(authorization_server.issue_token())


async def test_a_short_rsa_key_is_no_key(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """1024 bits can be factored by those who want to be somebody else badly enough."""
    weak = generate_private_key(65537, 1024)  # noqa: S505  # that is the point
    short = RSAKey(weak, weak, {"kid": "short"})
    authorization_server.published_jwks = json.dumps(
        {"keys": [short.as_dict(private=False)]}
    ).encode()

    await assert_refused(
        trusted_authority,
        sign_token({"alg": "RS256", "kid": "short"}, authorization_server.make_payload(), short),
    )


async def test_a_shared_secret_that_was_published_is_none(
    authorization_server: AuthorizationServer, trusted_authority: JwtVerifier
) -> None:
    """Whoever can read the set could sign with it."""
    authorization_server.published_jwks = (
        b'{"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}]}'
    )
    token: Secret = forge_token(
        {"alg": "HS256", "kid": "s"}, authorization_server.make_payload(), b"any"
    )

    await assert_refused(trusted_authority, token)
