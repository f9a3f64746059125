"""What somebody tries who wants a token that the user did not give them."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.clients import ClientRegistration, OAuthClientStore
from service.local.hub_emulator.oauth.errors import OAuthError
from service.local.hub_emulator.oauth.grants import AuthorizationRequest, GrantStore
from service.local.hub_emulator.users import find_user
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.oauth.consent_browser import (
    FORM_CONTENT_TYPE,
    REDIRECT_URI,
    ConsentForm,
    ParameterChange,
    SignInClient,
    submit_consent,
)

STOLEN_REDIRECT_URI = "https://evil.example/callback"


def assert_refused(answer: httpx2.Response, code: str = "invalid_grant", status: int = 400) -> None:
    """Check that an answer refuses, and leads nowhere."""
    assert "location" not in answer.headers
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def is_known(http: httpx2.AsyncClient, token: str) -> bool:
    """Say whether the Hub takes a token."""
    answer = await http.get("/api/whoami-v2", headers={"authorization": f"Bearer {token}"})
    return answer.status_code == 200


@pytest.mark.parametrize("verifier", ["w" * 43, "short", None])
async def test_a_code_is_worth_nothing_without_its_verifier(
    anonymous_http: httpx2.AsyncClient, verifier: str | None
) -> None:
    """Other programs of the machine may see the address a code comes back on."""
    app = await SignInClient.register(anonymous_http)
    code = await app.obtain_code()

    assert_refused(await app.redeem_code(code, code_verifier=verifier))

    assert (await app.redeem_code(code)).is_success


@pytest.mark.parametrize("verifier", ["v" * 42, "v" * 129, "é" * 43])
async def test_a_verifier_that_can_be_guessed_or_misread_is_refused(
    anonymous_http: httpx2.AsyncClient, verifier: str
) -> None:
    """Client authors who break RFC 7636 are to learn it here."""
    app = await SignInClient.register(anonymous_http)
    app.verifier = verifier

    assert_refused(await app.redeem_code(await app.obtain_code()))


async def test_a_code_that_comes_twice_ends_all_that_it_gave(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """One of the two stole it, and nobody can say which."""
    app = await SignInClient.register(anonymous_http)
    code = await app.obtain_code()
    tokens = (await app.redeem_code(code)).json()
    assert await is_known(anonymous_http, tokens["access_token"])

    assert_refused(await app.redeem_code(code))

    assert not await is_known(anonymous_http, tokens["access_token"])
    assert_refused(await app.refresh_tokens(tokens["refresh_token"]))


async def test_a_refresh_token_that_comes_twice_ends_the_session(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """Whoever stole one would share the user's session for ever."""
    app = await SignInClient.register(anonymous_http)
    first = await app.obtain_tokens()
    second = (await app.refresh_tokens(first.refresh_token)).json()

    assert_refused(await app.refresh_tokens(first.refresh_token))

    assert not await is_known(anonymous_http, second["access_token"])
    assert_refused(await app.refresh_tokens(second["refresh_token"]))


async def test_another_client_cannot_use_what_was_given_to_one(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """Anybody can register, so a code must be bound to who asked for it."""
    app, thief = (
        await SignInClient.register(anonymous_http),
        await SignInClient.register(anonymous_http),
    )
    code = await app.obtain_code()

    assert_refused(await app.redeem_code(code, client_id=thief.client_id))
    tokens = (await app.redeem_code(code)).json()
    assert_refused(await app.refresh_tokens(tokens["refresh_token"], client_id=thief.client_id))

    assert (await app.refresh_tokens(tokens["refresh_token"])).is_success


async def test_a_code_is_not_redeemed_with_another_redirect_uri(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """The client then believes that it was sent elsewhere: somebody has come in between."""
    app = await SignInClient.register(
        anonymous_http, redirect_uris=[REDIRECT_URI, f"{REDIRECT_URI}/other"]
    )
    code = await app.obtain_code()

    assert_refused(await app.redeem_code(code, redirect_uri=f"{REDIRECT_URI}/other"))
    assert_refused(await app.redeem_code(code, redirect_uri=None))

    assert (await app.redeem_code(code)).is_success


@pytest.mark.parametrize(
    "uri",
    [
        STOLEN_REDIRECT_URI,
        f"{REDIRECT_URI}/more",
        f"{REDIRECT_URI}?more=1",
        f"{REDIRECT_URI}#fragment",
        "http://127.0.0.1:8123@evil.example/callback",
        "http://127.0.0.1:8123\\@evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://localhost:8123/callback",
        "https://127.0.0.1:8123/callback",
        "http://127.0.0.1:x/callback",
        "http://127.0.0.1:8123/call\nback",
        "//evil.example/callback",
        "javascript:alert(1)",
    ],
)
@pytest.mark.parametrize("also", [{}, {"code_challenge": None}, {"response_type": "token"}])
async def test_nobody_is_sent_to_an_address_the_client_did_not_register(
    anonymous_http: httpx2.AsyncClient, uri: str, also: dict[str, ParameterChange]
) -> None:
    """Neither with a code nor with an error: the Hub's name must not lead anybody astray."""
    app = await SignInClient.register(anonymous_http)

    assert_refused(await app.authorize(redirect_uri=uri, **also), "invalid_request")


async def test_nobody_is_sent_anywhere_for_an_unknown_client(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """There is nothing to compare the address with."""
    app = await SignInClient.register(anonymous_http)

    assert_refused(await app.authorize(client_id="0" * 32), "invalid_request")
    assert_refused(await app.authorize(redirect_uri=None), "invalid_request")
    assert_refused(await app.authorize(login_hint="mallory"), "invalid_request")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "too-short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "openid everything"}, "invalid_scope"),
        ({"scope": " "}, "invalid_scope"),
    ],
)
async def test_a_request_that_proves_too_little_gets_no_page(
    anonymous_http: httpx2.AsyncClient, changes: dict[str, ParameterChange], error: str
) -> None:
    """Without a digest of the verifier, whoever sees the code could redeem it."""
    app = await SignInClient.register(anonymous_http)

    answer = await app.authorize(**changes)

    back = httpx2.URL(answer.headers["location"])
    assert str(back).startswith(f"{REDIRECT_URI}?")
    assert (back.params["error"], back.params["state"]) == (error, "the-state")
    assert "code" not in back.params


async def test_a_code_without_a_challenge_takes_no_verifier(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """Somebody who left the challenge out of a client's request could slip it their own code."""
    app = await SignInClient.register(
        anonymous_http, token_endpoint_auth_method="client_secret_post"
    )
    secret = app.registration["client_secret"]
    code = await app.obtain_code(code_challenge=None, code_challenge_method=None)

    assert_refused(await app.redeem_code(code, client_secret=secret))
    plain = await app.authorize(code_challenge_method="plain")
    bare = await app.authorize(code_challenge=None)

    for answer in (plain, bare):
        assert httpx2.URL(answer.headers["location"]).params["error"] == "invalid_request"


async def test_only_the_form_that_was_shown_says_yes_and_only_once(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """A page of somebody else cannot press the button, for it cannot know the form's token."""
    app = await SignInClient.register(anonymous_http)
    page = await app.authorize()
    form = ConsentForm(page.text)
    assert form.fields.keys() == {"form_token"}
    token = form.fields["form_token"]
    yes = {"decision": "allow"}

    for wrong in (f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}", "x" * 43):
        assert_refused(
            await anonymous_http.post("/oauth/authorize", data=yes | {"form_token": wrong}),
            "access_denied",
            403,
        )
    assert_refused(await anonymous_http.post("/oauth/authorize", data=yes), "invalid_request")
    back = await submit_consent(anonymous_http, page)
    twice = await anonymous_http.post("/oauth/authorize", data=yes | {"form_token": token})

    assert "code" in back.params
    assert_refused(twice, "access_denied", 403)


async def test_a_form_cannot_change_what_was_shown(anonymous_http: httpx2.AsyncClient) -> None:
    """What the user read is what the client gets."""
    app = await SignInClient.register(anonymous_http)
    form = ConsentForm((await app.authorize(scope="openid")).text)

    answer = await anonymous_http.post(
        "/oauth/authorize",
        data=form.fields
        | {
            "decision": "allow",
            "scope": "jobs",
            "redirect_uri": STOLEN_REDIRECT_URI,
            "login_hint": "bob",
        },
    )
    back = httpx2.URL(answer.headers["location"])
    tokens = (await app.redeem_code(back.params["code"])).json()

    assert str(back).startswith(f"{REDIRECT_URI}?")
    assert tokens["scope"] == "openid"


async def test_what_is_neither_yes_nor_no_is_no(anonymous_http: httpx2.AsyncClient) -> None:
    """A consent is given, never left over."""
    app = await SignInClient.register(anonymous_http)
    form = ConsentForm((await app.authorize()).text)

    answer = await anonymous_http.post("/oauth/authorize", data=form.fields | {"decision": "maybe"})

    assert httpx2.URL(answer.headers["location"]).params["error"] == "access_denied"


async def test_a_parameter_that_comes_twice_is_refused(anonymous_http: httpx2.AsyncClient) -> None:
    """One reader takes the first of two and another the last, and something slips through."""
    app = await SignInClient.register(anonymous_http)
    code = await app.obtain_code()
    body = f"grant_type=authorization_code&grant_type=refresh_token&code={code}"

    twice = await anonymous_http.post(
        "/oauth/token", content=body, headers={"content-type": FORM_CONTENT_TYPE}
    )

    assert_refused(
        await app.authorize(redirect_uri=[REDIRECT_URI, STOLEN_REDIRECT_URI]), "invalid_request"
    )
    assert_refused(twice, "invalid_request")


@pytest.mark.parametrize(
    "uri",
    [
        "http://evil.example/callback",
        "javascript:alert(1)",
        "cursor://callback",
        "https://",
        "https://user@good.example/callback",
        "http://127.0.0.1/callback#fragment",
        "http://127.0.0.1:x/callback",
        "https://good.example\\@evil.example/",
        "https://good.example\\.evil.example/",
        "/callback",
    ],
)
async def test_a_redirect_uri_that_others_could_read_is_not_registered(
    anonymous_http: httpx2.AsyncClient, uri: str
) -> None:
    """A code must not cross the network in clear, nor end in something that runs."""
    about = {"redirect_uris": [REDIRECT_URI, uri], "token_endpoint_auth_method": "none"}

    assert_refused(await anonymous_http.post("/oauth/register", json=about), "invalid_redirect_uri")


async def test_a_web_page_cannot_register_a_client(anonymous_http: httpx2.AsyncClient) -> None:
    """A browser sends these types anywhere without asking; for others it asks for leave."""
    about = f'{{"redirect_uris": ["{STOLEN_REDIRECT_URI}"]}}'

    for mime in ("text/plain", FORM_CONTENT_TYPE):
        answer = await anonymous_http.post(
            "/oauth/register", content=about, headers={"content-type": mime}
        )
        assert_refused(answer, "invalid_client_metadata")
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    leave = await anonymous_http.options("/oauth/register", headers=headers)
    assert "access-control-allow-origin" not in leave.headers


async def test_a_registration_of_nonsense_is_refused(anonymous_http: httpx2.AsyncClient) -> None:
    """The client's author learns at once what is wrong."""
    good = {"redirect_uris": [REDIRECT_URI]}

    for changes in (
        {"response_types": ["token"]},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"client_name": "x" * 201},
    ):
        answer = await anonymous_http.post("/oauth/register", json=good | changes)
        assert_refused(answer, "invalid_client_metadata")
    assert_refused(
        await anonymous_http.post("/oauth/register", json={"redirect_uris": []}),
        "invalid_redirect_uri",
    )


async def test_a_token_request_is_a_form_of_a_known_kind(
    anonymous_http: httpx2.AsyncClient,
) -> None:
    """Anything else is a mistake of the client's, and no reason to guess."""
    app = await SignInClient.register(anonymous_http)
    code = await app.obtain_code()

    assert_refused(
        await anonymous_http.post("/oauth/token", json={"code": code}), "invalid_request"
    )
    assert_refused(await app.redeem_code(code, grant_type="password"), "unsupported_grant_type")
    assert_refused(await app.redeem_code(code, client_id=None), "invalid_client", 401)
    assert_refused(await app.redeem_code(""), "invalid_request")
    anonymous_http.headers["authorization"] = "Basic no"
    assert_refused(await app.redeem_code(code), "invalid_client", 401)


def test_a_code_lives_for_a_minute(hub_emulator: HubEmulatorProcess) -> None:
    """One that lies around in a browser's history is worth nothing."""
    now = datetime.now(UTC)
    grants = GrantStore(clock=lambda: now)
    alice = find_user(hub_emulator.users, "alice")
    authorization = AuthorizationRequest(
        "client", REDIRECT_URI, alice, ["jobs"], [], None, None, None
    )
    late, in_time = grants.issue_code(authorization), grants.issue_code(authorization)

    now += timedelta(seconds=59)
    grants.redeem_code(in_time, client_id="client", redirect_uri=REDIRECT_URI, verifier=None)
    now += timedelta(seconds=1)

    with pytest.raises(OAuthError, match="expired"):
        grants.redeem_code(late, client_id="client", redirect_uri=REDIRECT_URI, verifier=None)


def test_what_strangers_send_does_not_fill_the_memory() -> None:
    """Registering needs no token, so anybody on this machine could go on for ever."""
    recent = BoundedCache[int](max_entries=2)
    for number in range(3):
        recent.put(str(number), number)
    clients = OAuthClientStore()
    about = ClientRegistration(redirect_uris=[REDIRECT_URI])
    first, second, *_ = [clients.register(about) for _ in range(1_001)]

    assert [key for key in ("0", "1", "2") if key in recent] == ["1", "2"]
    assert clients.get(first.id) is None
    assert clients.get(second.id) is second
