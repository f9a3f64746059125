"""The limit of the endpoints of a sign-in: by address, before anything else is looked at."""

from collections.abc import Generator
from http import HTTPStatus
from typing import Any, Final

import httpx2
import pytest

from schema.common.errors import SignInRateLimited
from service.http.rate_limit import RateLimiter
from tests.support.factories import StartService
from tests.support.hub.fake_hub import FakeHub
from tests.support.polling import HTTP_TIMEOUT_SECONDS

LIMIT: Final = 2
ENDPOINTS: Final = [("POST", "/oauth/register"), ("POST", "/oauth/token")]
PAGES: Final = [
    ("GET", "/oauth/authorize"),
    ("GET", "/oauth/consent"),
    ("POST", "/oauth/consent"),
    ("GET", "/oauth/callback"),
]
REGISTRATION: Final[dict[str, Any]] = {
    "redirect_uris": ["http://127.0.0.1:1/"],
    "token_endpoint_auth_method": "none",
}


@pytest.fixture
def service_url(start_service: StartService, fake_hub: FakeHub) -> Generator[str]:
    """A service with a sign-in proxy, and few requests for each address."""
    with start_service(
        hub_url=fake_hub.url, oauth_client_id="an-application", calls_per_minute=LIMIT
    ) as url:
        yield url


def open_browser(url: str, address: str) -> httpx2.AsyncClient:
    """Open a client at an address of this machine; no other test has the same one."""
    transport = httpx2.AsyncHTTPTransport(local_address=address)
    return httpx2.AsyncClient(base_url=url, transport=transport, timeout=HTTP_TIMEOUT_SECONDS)


async def request_until_refused(
    http: httpx2.AsyncClient, method: str, path: str, **options: Any
) -> list[httpx2.Response]:
    """Send the same request until it is refused for the limit, however slow the machine is."""
    answers: list[httpx2.Response] = []
    while len(answers) < 20 * LIMIT:
        answers.append(await http.request(method, path, **options))
        if answers[-1].status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return answers
    pytest.fail(f"none of {len(answers)} requests was refused")


@pytest.mark.parametrize(("method", "path"), [*ENDPOINTS, *PAGES])
async def test_each_endpoint_of_a_sign_in_is_limited(
    service_url: str, method: str, path: str
) -> None:
    """`SignInRateLimited`: a program gets an OAuth error, a person a page."""
    place = [*ENDPOINTS, *PAGES].index((method, path))
    async with open_browser(service_url, f"127.0.9.{place + 1}") as http:
        answers = await request_until_refused(http, method, path)

    refusal = answers[-1]
    assert len(answers) > LIMIT
    assert 0 < int(refusal.headers["retry-after"]) <= 120
    assert f"{LIMIT} requests in 60 seconds" in refusal.text
    if (method, path) in ENDPOINTS:
        assert refusal.json()["error"] == "temporarily_unavailable"
    else:
        assert refusal.headers["content-type"].startswith("text/html")


async def test_another_address_signs_in_meanwhile(service_url: str) -> None:
    """A flood keeps out whoever sends it, and nobody else."""
    async with open_browser(service_url, "127.0.9.21") as flood:
        await request_until_refused(flood, "POST", "/oauth/register", json=REGISTRATION)
    async with open_browser(service_url, "127.0.9.22") as other:
        registered = await other.post("/oauth/register", json=REGISTRATION)

    assert registered.status_code == HTTPStatus.CREATED


async def test_calls_without_a_sign_in_do_not_keep_anybody_from_signing_in(
    service_url: str,
) -> None:
    """`RateLimiter.count_sign_in_request` has a count of its own: "Sign in" is what we advise."""
    assert RateLimiter.count_sign_in_request.__name__
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"accept": "application/json, text/event-stream"}
    async with open_browser(service_url, "127.0.9.23") as http:
        await request_until_refused(http, "POST", "/mcp", json=message, headers=headers)
        registered = await http.post("/oauth/register", json=REGISTRATION)

    assert registered.status_code == HTTPStatus.CREATED


async def test_a_page_of_another_origin_can_read_the_refusal(service_url: str) -> None:
    """A client in a browser shows what its person has to wait for."""
    headers = {"origin": "https://client.example"}
    async with open_browser(service_url, "127.0.9.24") as http:
        *_, refused = await request_until_refused(http, "POST", "/oauth/token", headers=headers)

    assert refused.headers["access-control-allow-origin"] == "*"
    assert SignInRateLimited.__doc__
