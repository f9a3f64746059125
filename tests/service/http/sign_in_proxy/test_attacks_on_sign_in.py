"""What somebody tries who wants a code or a token that another person signed in for."""

from collections.abc import AsyncGenerator, Generator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.oauth.consent_browser import (
    REDIRECT_URI,
    ConsentForm,
    SignInClient,
    follow_sign_in,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def service_url(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> AsyncGenerator[str]:
    """A service that lets clients sign in by an application of its operator's."""
    port = find_free_port()
    public_url = f"http://127.0.0.1:{port}"
    async with AsyncHttpClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
        made = await hub.post(
            "/oauth/register",
            json={
                "redirect_uris": [f"{public_url}/oauth/callback"],
                "token_endpoint_auth_method": "none",
            },
        )
    with start_service(
        hub_url=hub_emulator.url,
        oauth_client_id=made.json()["client_id"],
        public_url=public_url,
        at=port,
    ) as url:
        yield url


@pytest.fixture
async def person(service_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """The browser of a person."""
    async with AsyncHttpClient(base_url=service_url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        yield http


@pytest.fixture
async def stranger(service_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """The browser of somebody else."""
    async with AsyncHttpClient(base_url=service_url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        yield http


async def open_consent(
    http: httpx2.AsyncClient, client: SignInClient, **changes: Any
) -> httpx2.Response:
    """Open our page in a browser."""
    sent = await client.authorize(**changes)
    assert sent.status_code == 302, sent.text
    return await http.get(sent.headers["location"])


async def agree(http: httpx2.AsyncClient, page: httpx2.Response) -> httpx2.Response:
    """Press Continue on our page."""
    form = ConsentForm(page.text)
    return await http.post("/oauth/consent", data=form.fields | {"decision": "allow"})


async def obtain_code(http: httpx2.AsyncClient, client: SignInClient) -> str:
    """Sign a person in."""
    back = await follow_sign_in(http, await client.authorize())
    assert back.params["state"] == "the-state"
    return back.params["code"]


async def test_a_client_that_sends_no_state_gets_none(person: httpx2.AsyncClient) -> None:
    """The TypeScript SDKs send none: their codes are bound by PKCE."""
    client = await SignInClient.register(person)

    back = await follow_sign_in(person, await client.authorize(state=None))

    assert "state" not in back.params
    assert (await client.redeem_code(back.params["code"])).status_code == 200


@pytest.mark.parametrize(
    "redirect",
    ["http://evil.example/callback", "javascript:alert(1)", "https://user@host/", "//evil.example"],
)
async def test_nobody_registers_an_address_that_others_could_read(
    person: httpx2.AsyncClient, redirect: str
) -> None:
    """A code sent there would be for whoever listens."""
    answer = await person.post("/oauth/register", json={"redirect_uris": [redirect]})

    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_redirect_uri", "invalid_client_metadata"}


async def test_a_page_cannot_register_by_a_form(person: httpx2.AsyncClient) -> None:
    """What says it is JSON cannot be sent by a page of another origin unasked; text can."""
    body = b'{"redirect_uris": ["http://127.0.0.1:1/"], "token_endpoint_auth_method": "none"}'
    answers = [
        await person.post("/oauth/register", content=body, headers={"content-type": media_type})
        for media_type in ("text/plain", "application/json")
    ]

    assert [answer.status_code for answer in answers] == [400, 201]


async def test_a_code_goes_only_to_an_address_that_was_registered(
    person: httpx2.AsyncClient,
) -> None:
    """An open redirect would hand the code to anybody who writes a link."""
    client = await SignInClient.register(person)

    answer = await client.authorize(redirect_uri="https://evil.example/callback")

    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_the_page_says_who_asks_and_where_the_answer_goes(
    person: httpx2.AsyncClient, hub_emulator: HubEmulatorProcess
) -> None:
    """The server knows one application only, so this page alone tells two programs apart."""
    client = await SignInClient.register(
        person, client_name="<img src=x onerror=alert(1)>", redirect_uris=["https://evil.example/c"]
    )

    page = await open_consent(person, client)

    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert "<img" not in page.text
    assert "https://evil.example" in page.text
    assert hub_emulator.url in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert "HttpOnly" in page.headers["set-cookie"]
    assert "SameSite=lax" in page.headers["set-cookie"]


async def test_nobody_is_signed_in_without_their_consent(
    person: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    """A page of another origin can post the form of its own sign-in, but has no cookie of ours."""
    client = await SignInClient.register(person)
    form = ConsentForm((await open_consent(stranger, client)).text)

    posted = await person.post("/oauth/consent", data=form.fields | {"decision": "allow"})
    without = await person.post(
        "/oauth/consent", data=form.fields | {"browser": "", "decision": "allow"}
    )

    assert [posted.status_code, without.status_code] == [400, 400]
    assert "location" not in posted.headers | without.headers


async def test_who_cancels_sends_nothing_but_that(person: httpx2.AsyncClient) -> None:
    """The client learns it, and can say so."""
    client = await SignInClient.register(person)
    form = ConsentForm((await open_consent(person, client)).text)

    answer = await person.post("/oauth/consent", data=form.fields | {"decision": "deny"})

    back = httpx2.URL(answer.headers["location"])
    assert str(back).startswith(REDIRECT_URI)
    assert back.params["error"] == "access_denied"
    assert back.params["state"] == "the-state"
    assert "code" not in back.params


async def test_another_browser_cannot_finish_a_sign_in(
    person: httpx2.AsyncClient, stranger: httpx2.AsyncClient, hub_emulator: HubEmulatorProcess
) -> None:
    """Else a stranger could have a person finish theirs, and the two would share an account."""
    del hub_emulator
    client = await SignInClient.register(stranger)
    sent = await agree(stranger, await open_consent(stranger, client))
    upstream = await stranger.get(sent.headers["location"])
    if upstream.status_code == 200:
        form = ConsentForm(upstream.text)
        upstream = await stranger.post(
            str(upstream.url.join(form.action)),
            data=form.fields | {form.buttons["allow"]: "allow"},
        )

    in_theirs = await person.get(upstream.headers["location"])
    in_its_own = await stranger.get(upstream.headers["location"])

    assert in_theirs.status_code == 400
    assert in_its_own.headers["location"].startswith(REDIRECT_URI)


async def test_an_answer_of_another_server_is_not_taken(person: httpx2.AsyncClient) -> None:
    """A server that mixes itself in would get a code of the right one (RFC 9207)."""
    client = await SignInClient.register(person)
    sent = httpx2.URL((await agree(person, await open_consent(person, client))).headers["location"])
    answers = [
        await person.get(
            f"/oauth/callback?{urlencode({'state': sent.params['state'], 'code': 'c', **issuer})}"
        )
        for issuer in ({"iss": "https://evil.example"}, {})
    ]

    assert [answer.status_code for answer in answers] == [400, 400]


async def test_a_resource_of_somebody_else_is_not_asked_for(person: httpx2.AsyncClient) -> None:
    """The token would be for that service, and come by way of ours."""
    client = await SignInClient.register(person)

    answer = await client.authorize(resource="https://bank.example/")

    assert httpx2.URL(answer.headers["location"]).params["error"] == "invalid_target"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "v" * 43},
        {"redirect_uri": "http://127.0.0.1:8124/callback"},
        {"client_id": "another"},
    ],
)
async def test_a_stolen_code_is_worth_nothing(
    person: httpx2.AsyncClient, changes: dict[str, str]
) -> None:
    """It is bound to the client, to its address, and to the proof that only the client has."""
    client = await SignInClient.register(person)
    code = await obtain_code(person, client)
    another = await SignInClient.register(person)
    changed = {
        name: another.client_id if value == "another" else value for name, value in changes.items()
    }

    refused = await client.redeem_code(code, **changed)
    redeemed = await client.redeem_code(code)
    again = await client.redeem_code(code)

    assert refused.status_code == 400
    assert redeemed.status_code == 200, redeemed.text
    assert again.status_code == 400


async def test_a_refresh_token_is_only_for_the_client_that_got_it(
    person: httpx2.AsyncClient,
) -> None:
    """Every client is the same application at the server, which therefore cannot tell."""
    client = await SignInClient.register(person)
    tokens = (await client.redeem_code(await obtain_code(person, client))).json()
    another = await SignInClient.register(person)

    refused = await another.refresh_tokens(tokens["refresh_token"])
    renewed = await client.refresh_tokens(tokens["refresh_token"])

    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert renewed.status_code == 200, renewed.text


async def test_a_sealed_token_is_of_one_kind(person: httpx2.AsyncClient) -> None:
    """A page's request is no state that came back, and a refresh token is no code."""
    client = await SignInClient.register(person)
    page = await open_consent(person, client)
    sealed_request = ConsentForm(page.text).fields["request"]
    tokens = (await client.redeem_code(await obtain_code(person, client))).json()

    as_state = await person.get(f"/oauth/callback?{urlencode({'state': sealed_request})}")
    as_code = await client.redeem_code(tokens["refresh_token"])

    assert as_state.status_code == 400
    assert (as_code.status_code, as_code.json()["error"]) == (400, "invalid_grant")
