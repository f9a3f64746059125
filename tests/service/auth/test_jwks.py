"""Which keys are believed, for how long, and how often may anybody make us ask?"""

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
from service.auth.jwks import FRESH, KEPT, PAUSE
from service.auth.jwt_verifier import ExternalAuthority
from tests.service.auth.authorization_server import AuthorizationServer, forged, signed
from tests.service.auth.conftest import Clock, refused

A_MOMENT = timedelta(seconds=0.1)


def new_key(kid: str = "new") -> ECKey:
    """Make a key nobody has published yet."""
    return ECKey.generate_key("P-256", {"kid": kid})


def down() -> Response:
    """Answer like a proxy whose server is gone."""
    return Response(status_code=503)


async def test_keys_are_fetched_once_for_everybody(
    server: AuthorizationServer, authority: ExternalAuthority
) -> None:
    """A burst of callers is one question, and for a minute there is no other."""
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(authority.verify, server.issue())
    await authority.verify(server.issue(key=server.keys[1]))

    assert server.fetches == 1


async def test_a_new_key_is_believed_as_soon_as_it_signs(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """Servers rotate without telling; nobody restarts us for it."""
    await authority.verify(server.issue())
    clock.advance(PAUSE)
    server.keys.insert(0, new_key())

    assert await authority.verify(server.issue())
    assert server.fetches == 2


async def test_a_key_that_was_taken_back_is_believed_for_a_minute_at_most(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """It may have been stolen."""
    token = server.issue()
    await authority.verify(token)
    server.keys = [new_key()]

    clock.advance(timedelta(seconds=60) - A_MOMENT)
    assert await authority.verify(token)
    clock.advance(A_MOMENT)
    assert "may have been replaced" in str(await refused(authority, token))


async def test_made_up_kids_are_looked_for_once_in_five_seconds(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """Else anyone could flood the authorization server through us."""
    impostors = [server.issue(key=new_key(f"made-up-{n}")) for n in range(50)]

    async with anyio.create_task_group() as tasks:
        for token in impostors:
            tasks.start_soon(refused, authority, token)
    clock.advance(PAUSE - A_MOMENT)
    for token in impostors:
        await refused(authority, token)
    assert server.fetches == 1

    clock.advance(A_MOMENT)
    for token in impostors:
        await refused(authority, token)
    assert server.fetches == 2


async def test_known_keys_do_not_wait_for_a_made_up_one(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """While we look for it, everybody else is served."""
    await authority.verify(server.issue())
    clock.advance(PAUSE)
    server.answering.clear()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refused, authority, server.issue(key=new_key()))
            await anyio.wait_all_tasks_blocked()
            assert await authority.verify(server.issue())
            server.answering.set()


async def test_who_leaves_while_keys_are_fetched_leaves_them_to_the_others(
    server: AuthorizationServer, authority: ExternalAuthority
) -> None:
    """A client that hangs up cannot make us ask again and again."""
    server.answering.clear()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(authority.verify, server.issue())
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            server.answering.set()
        await authority.verify(server.issue())

    assert server.fetches == 1


async def test_without_keys_nobody_is_let_in_or_turned_away(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """The server is down when we start; a token we cannot verify is neither right nor wrong."""
    server.failing = down()
    for _ in range(3):
        with pytest.raises(Unavailable) as silence:
            await authority.verify(server.issue())
        assert silence.value.retry_after == PAUSE
    assert server.fetches == 1

    server.failing = None
    clock.advance(PAUSE)
    assert await authority.verify(server.issue())


async def test_an_outage_of_the_server_is_not_ours(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """The last good keys serve for ten minutes; a kid they lack may be one we could not fetch."""
    await authority.verify(server.issue())
    server.failing = down()

    clock.advance(FRESH)
    assert await authority.verify(server.issue())
    with pytest.raises(Unavailable):
        await authority.verify(server.issue(key=new_key()))
    clock.advance(KEPT - FRESH - A_MOMENT)
    assert await authority.verify(server.issue())
    clock.advance(A_MOMENT)
    with pytest.raises(Unavailable):
        await authority.verify(server.issue())


async def test_an_outage_does_not_let_a_stranger_in(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """What is kept is the keys, not the trust."""
    await authority.verify(server.issue())
    server.failing = down()
    clock.advance(FRESH)

    await refused(authority, server.issue(key=new_key("ec")))


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
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock, answer: Response
) -> None:
    """A captive portal, a proxy's error page or a flood takes no key from us, and gives none."""
    await authority.verify(server.issue())
    server.failing = answer
    clock.advance(FRESH)

    assert await authority.verify(server.issue())
    assert server.fetches == 2
    assert "/elsewhere" not in server.asked


async def test_a_set_without_keys_takes_them_all_back(
    server: AuthorizationServer, authority: ExternalAuthority, clock: Clock
) -> None:
    """That is how a server says that they are all lost."""
    await authority.verify(server.issue())
    server.published = b'{"keys": []}'
    clock.advance(FRESH)

    await refused(authority, server.issue())


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
    server: AuthorizationServer,
    authority: ExternalAuthority,
    rsa_key: RSAKey,
    change: dict[str, Any],
) -> None:
    """And it does not spoil the others."""
    odd = {**rsa_key.as_dict(private=False), **change}
    server.published = json.dumps({"keys": [odd, server.keys[0].as_dict(private=False)]}).encode()

    await refused(authority, signed({"alg": "RS256", "kid": "rsa"}, server.payload(), rsa_key))
    assert await authority.verify(server.issue())


async def test_a_private_key_that_was_published_verifies_as_its_public_half(
    server: AuthorizationServer, authority: ExternalAuthority
) -> None:
    """A grave mistake, but not ours; and there is no secret in our memory."""
    server.published = json.dumps({"keys": [server.keys[0].as_dict(private=True)]}).encode()

    assert await authority.verify(server.issue())


async def test_a_short_rsa_key_is_no_key(
    server: AuthorizationServer, authority: ExternalAuthority
) -> None:
    """1024 bits can be factored by those who want to be somebody else badly enough."""
    weak = generate_private_key(65537, 1024)  # noqa: S505  # that is the point
    short = RSAKey(weak, weak, {"kid": "short"})
    server.published = json.dumps({"keys": [short.as_dict(private=False)]}).encode()

    await refused(authority, signed({"alg": "RS256", "kid": "short"}, server.payload(), short))


async def test_a_shared_secret_that_was_published_is_none(
    server: AuthorizationServer, authority: ExternalAuthority
) -> None:
    """Whoever can read the set could sign with it."""
    server.published = b'{"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}]}'
    token: Secret = forged({"alg": "HS256", "kid": "s"}, server.payload(), b"any")

    await refused(authority, token)
