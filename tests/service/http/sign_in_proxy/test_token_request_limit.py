"""The limit of requests for tokens: by sign-in, because many people may be behind one address."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2
import pytest

from service.http.rate_limit import RateLimiter
from service.http.sign_in_proxy.provider import SignInProxy
from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import run_hub_emulator
from tests.support.oauth.consent_browser import SignInClient, follow_sign_in
from tests.support.polling import HTTP_TIMEOUT_SECONDS

LIMIT: Final = 8
"""More than one sign-in asks for before it gets its tokens."""
TEAM_ADDRESS: Final = "127.0.10.1"
"""The one address that a team has; of no other test."""


@pytest.fixture(scope="module")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The Hub, at which the service has an application."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running.url


@pytest.fixture
async def service_url(start_service: StartService, hub_url: str) -> AsyncGenerator[str]:
    """A service with a sign-in proxy, and few requests for each sign-in."""
    port = find_free_port()
    public_url = f"http://127.0.0.1:{port}"
    async with AsyncHttpClient(base_url=hub_url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
        application = await SignInClient.register(
            hub, redirect_uris=[f"{public_url}/oauth/callback"], scope="openid profile jobs"
        )
    with start_service(
        hub_url=hub_url,
        oauth_client_id=application.client_id,
        calls_per_minute=LIMIT,
        public_url=public_url,
        at=port,
    ) as url:
        yield url


@dataclass(slots=True)
class Member:
    """One of a team, whose program has signed in."""

    program: SignInClient
    refresh_token: str

    async def refresh(self, http: httpx2.AsyncClient) -> httpx2.Response:
        """Ask for the next tokens from some address, and remember them."""
        self.program.http = http
        answer = await self.program.refresh_tokens(self.refresh_token)
        if answer.status_code == HTTPStatus.OK:
            self.refresh_token = answer.json()["refresh_token"]
        return answer


@asynccontextmanager
async def open_address(url: str, address: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client at an address of this machine."""
    transport = httpx2.AsyncHTTPTransport(local_address=address)
    async with httpx2.AsyncClient(
        base_url=url, transport=transport, timeout=HTTP_TIMEOUT_SECONDS
    ) as http:
        yield http


async def sign_in(url: str, address: str) -> Member:
    """Sign a person's program in, from an address where nobody else is."""
    async with open_address(url, address) as http:
        program = await SignInClient.register(http)
        page = await program.authorize(scope="openid profile jobs")
        back = await follow_sign_in(http, page)
        answer = await program.redeem_code(back.params["code"])
        assert answer.status_code == HTTPStatus.OK, answer.text
        return Member(program, answer.json()["refresh_token"])


async def post_until_refused(http: httpx2.AsyncClient, form: dict[str, Any]) -> httpx2.Response:
    """Ask for tokens that nobody gets, until that is too often."""
    for _ in range(20 * LIMIT):
        answer = await http.post("/oauth/token", data=form)
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return answer
    pytest.fail("no request was refused")


async def test_a_stranger_behind_the_same_address_keeps_nobody_from_refreshing(
    service_url: str,
) -> None:
    """`count_token_request` counts whoever shows no sign-in apart, with or without a client."""
    assert RateLimiter.count_token_request.__name__
    member = await sign_in(service_url, "127.0.10.2")
    stranger = await sign_in(service_url, "127.0.10.3")
    async with open_address(service_url, TEAM_ADDRESS) as http:
        invented = {"grant_type": "refresh_token", "refresh_token": "invented"}
        await post_until_refused(http, invented)
        await post_until_refused(http, invented | {"client_id": stranger.program.client_id})
        refreshed = await member.refresh(http)

    assert refreshed.status_code == HTTPStatus.OK, refreshed.text


async def test_one_sign_in_keeps_no_other_from_refreshing(service_url: str) -> None:
    """`SignInProxy.identify_grant`: a refresh token and the next one are of one sign-in."""
    assert SignInProxy.identify_grant.__name__
    busy = await sign_in(service_url, "127.0.10.4")
    calm = await sign_in(service_url, "127.0.10.5")
    async with open_address(service_url, TEAM_ADDRESS) as http:
        answers = [await busy.refresh(http)]
        while answers[-1].status_code == HTTPStatus.OK and len(answers) < 20 * LIMIT:
            answers.append(await busy.refresh(http))
        refreshed = await calm.refresh(http)

    assert answers[-1].status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert "One sign-in may make 8 requests in 60 seconds" in answers[-1].text
    assert refreshed.status_code == HTTPStatus.OK, refreshed.text


async def test_a_refresh_counts_for_no_page(service_url: str) -> None:
    """A team whose programs refresh can still sign the next one in."""
    member = await sign_in(service_url, "127.0.10.6")
    async with open_address(service_url, "127.0.10.7") as http:
        while (await member.refresh(http)).status_code == HTTPStatus.OK:
            pass
        registered = await SignInClient.register(http)

    assert registered.client_id


async def test_the_id_of_a_client_is_used_up_by_nobody_elsewhere(service_url: str) -> None:
    """It is in the address of a page, and so no secret."""
    member = await sign_in(service_url, "127.0.10.8")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "invented",
        "client_id": member.program.client_id,
    }
    async with open_address(service_url, "127.0.10.9") as http:
        await post_until_refused(http, form)
    async with open_address(service_url, "127.0.10.10") as http:
        answer = await http.post("/oauth/token", data=form)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_body_that_is_no_form_counts_too(service_url: str) -> None:
    """Else there would be a way to ask without end."""
    headers = {"content-type": "multipart/form-data; boundary=x"}
    async with open_address(service_url, "127.0.10.11") as http:
        for _ in range(20 * LIMIT):
            answer = await http.post("/oauth/token", content=b"--y", headers=headers)
            if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                return
    pytest.fail("no request was refused")
