"""Which pages may call the service from a browser, and read what it answers."""

from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.http.cross_origin import allow_cross_origin
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.mcp.client import post_message

PAGE = "http://localhost:6274"
"""Where the MCP Inspector serves its page."""
ALLOWED = "https://inspector.example"
FOREIGN = "https://evil.example"


async def preflight(url: str, origin: str, **headers: str) -> httpx2.Response:
    """Ask as a browser does before it lets a page call the endpoint; it sends no credentials."""
    request_headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,mcp-protocol-version,"
        "mcp-method,mcp-name,mcp-param-region,mcp-session-id,last-event-id",
    }
    async with AsyncHttpClient(headers=request_headers | headers) as http:
        return await http.request("OPTIONS", f"{url}/mcp")


def allowed_origin(response: httpx2.Response) -> Any:
    return response.headers.get("access-control-allow-origin")


@pytest.mark.parametrize("origin", [PAGE, "http://127.0.0.1:3000", "http://[::1]", ALLOWED])
async def test_a_preflight_from_an_allowed_origin_is_answered_without_a_sign_in(
    start_service: StartService, fake_hub: FakeHub, origin: str
) -> None:
    """A browser sends no token with it, and would give up at a 401."""
    with start_service(allowed_origins=f" {ALLOWED.upper()}:443/ ") as url:
        answer = await preflight(url, origin)

    assert (answer.status_code, allowed_origin(answer)) == (200, origin)
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "mcp-param-region" in answer.headers["access-control-allow-headers"]
    assert fake_hub.whoami_tokens == []


@pytest.mark.parametrize(
    "origin",
    [
        FOREIGN,
        "null",
        "https://localhost.evil.example",
        "http://localhostx",
        "http://127x0x0x1",
        f"{ALLOWED}.evil.example",
        "https://inspector.example:8443",
        "http://inspector.example",
    ],
)
async def test_a_page_of_another_origin_may_neither_call_nor_read(
    start_service: StartService, fake_hub: FakeHub, origin: str
) -> None:
    """No page that a person happens to visit talks to a server on their machine."""
    with start_service(allowed_origins=ALLOWED) as url:
        permission = await preflight(url, origin)
        answer = await post_message(url, "tools/list", origin=origin)

    assert (permission.status_code, allowed_origin(permission)) == (400, None)
    assert allowed_origin(answer) is None
    assert answer.status_code == 403
    assert fake_hub.whoami_tokens == []


async def test_a_page_reads_every_answer_also_a_refusal(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """Without the header a browser hides the answer, so a page could not see where to sign in."""
    fake_hub.whoami_by_token["hf_busy"] = whoami_answer("5e9ecfc04957053f60648a77", "busy")
    answers: dict[int, httpx2.Response] = {}

    def add(response: httpx2.Response) -> None:
        answers[response.status_code] = response

    with start_service(calls_per_minute=1) as url:
        add(await post_message(url, "tools/list", authorization="Bearer hf_busy", origin=PAGE))
        add(await post_message(url, "tools/list", authorization="Bearer hf_busy", origin=PAGE))
        add(await post_message(url, "tasks/get", authorization="", origin=PAGE))
        add(await post_message(url, "tools/list", host="evil.example", origin=PAGE))
        add(await post_message(url, "tools/list", content_type="text/plain", origin=PAGE))
        async with AsyncHttpClient(headers={"origin": PAGE}) as http:
            add(await http.get(f"{url}/mcp"))
        fake_hub.failure_response = JSONResponse({}, 500)
        add(await post_message(url, "tools/list", authorization="Bearer hf_new", origin=PAGE))

    assert sorted(answers) == [200, 400, 401, 405, 421, 429, 503]
    for answer in answers.values():
        assert allowed_origin(answer) == PAGE
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"mcp-session-id", "mcp-protocol-version", "www-authenticate"} <= set(exposed)
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= set(exposed)


async def test_an_allowed_page_can_read_that_the_endpoint_broke() -> None:
    """Without the header, a browser shows a page no more than that the network failed."""

    async def break_down(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    endpoint = allow_cross_origin(break_down, "https://holdfast.example", (ALLOWED,))
    transport = httpx2.ASGITransport(endpoint, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport) as http:
        answers = [
            await http.post("https://holdfast.example/mcp", headers={"origin": origin})
            for origin in (ALLOWED, FOREIGN)
        ]

    assert [answer.status_code for answer in answers] == [500, 500]
    assert [allowed_origin(answer) for answer in answers] == [ALLOWED, None]
