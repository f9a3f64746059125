"""A server of the tests ends at once, and cuts nobody off."""

import threading

import anyio
import anyio.to_thread
import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.http_clients import AsyncHttpClient
from tests.support.http_server import serve_app


async def test_a_request_under_way_is_answered_though_the_server_ends() -> None:
    """As by the server of a deployment."""
    is_asked, may_answer = threading.Event(), threading.Event()

    async def answer(request: Request) -> Response:
        is_asked.set()
        await anyio.to_thread.run_sync(may_answer.wait)
        return PlainTextResponse("at last")

    responses: list[httpx2.Response] = []

    async def ask(http: httpx2.AsyncClient, url: str) -> None:
        responses.append(await http.get(url))

    async with AsyncHttpClient() as http, anyio.create_task_group() as tasks:
        server = serve_app(Starlette(routes=[Route("/", answer)]))
        url = server.__enter__()
        tasks.start_soon(ask, http, url)
        await anyio.to_thread.run_sync(is_asked.wait)
        async with anyio.create_task_group() as ending:
            ending.start_soon(anyio.to_thread.run_sync, server.__exit__, None, None, None)
            may_answer.set()

    assert [each.text for each in responses] == ["at last"]


async def test_a_client_that_stays_connected_does_not_hold_up_the_end() -> None:
    """An idle connection is closed; the application hears that it ends."""
    async with AsyncHttpClient() as http:
        with serve_app(Starlette()) as url:
            assert (await http.get(url)).status_code == 404
            is_up = threading.active_count()

        assert threading.active_count() < is_up
