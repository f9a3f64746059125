"""Endpoints of Spaces, and the proxy in front of every Space.

    local/tiny     public; asleep until the first call
    USER/own       the same app, private to one user
    local/paused   its owner has paused it

The proxy does what the real one does: it reads `X-HF-Authorization`, answers for a private Space
only to a user who may see it, and removes that header. `Authorization` reaches the app.
"""

import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from service.local.hub_emulator.current_user import find_current_user, get_hub_url
from service.local.hub_emulator.errors import repository_not_found_error
from service.local.hub_emulator.spaces.app_process import SpaceAppProcess
from service.local.hub_emulator.users import LocalUser

SPACE_PROXY_PATH: Final = "/_emulator/spaces"
"""Replaces `https://{subdomain}.hf.space`: this machine has no such host names."""
PUBLIC_SPACE: Final = "local/tiny"
PAUSED_SPACE: Final = "local/paused"
_PRIVATE_SPACE_NAME: Final = "own"
_METHODS: Final = ["GET", "POST", "HEAD"]
_HOP_BY_HOP_HEADERS: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "date", "server"}
)
_UNFORWARDED_HEADERS: Final = _HOP_BY_HOP_HEADERS | {"host", "x-hf-authorization"}


@dataclass(frozen=True, slots=True)
class _Space:
    id: str
    owner: str | None
    """The name of the only user who may see it; None if it is public."""
    stage: str

    @property
    def subdomain(self) -> str:
        return self.id.replace("/", "-").lower()

    def is_visible_to(self, user: LocalUser | None) -> bool:
        return self.owner is None or (user is not None and user.name == self.owner)

    def to_dict(self, host_url: str) -> dict[str, Any]:
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        return {
            "_id": "a" * 24,
            "id": self.id,
            "author": self.id.partition("/")[0],
            "sha": "0" * 40,
            "private": self.owner is not None,
            "gated": False,
            "disabled": False,
            "host": host_url,
            "subdomain": self.subdomain,
            "sdk": "gradio",
            "tags": ["gradio"],
            "likes": 0,
            "runtime": {
                "stage": self.stage,
                "hardware": hardware,
                "gcTimeout": 172_800,
                "replicas": {"current": 1, "requested": 1},
            },
        }


class SpaceRoutes:
    """The endpoints of Spaces at the Hub and at their proxy."""

    def __init__(self, users: list[LocalUser]) -> None:
        self._users = {user.token: user for user in users if not user.has_expired()}
        self._owners = {user.name for user in users}
        self._app = SpaceAppProcess()
        self._client = httpx2.AsyncClient(
            timeout=None,
            trust_env=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # unused: the app is on this machine
        )

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/spaces/{owner}/{name}", self._describe),
            Route(f"{SPACE_PROXY_PATH}/{{subdomain}}/{{path:path}}", self._proxy, methods=_METHODS),
        ]

    async def close(self) -> None:
        """End the app and close the proxy's connections."""
        await self._app.close()
        await self._client.aclose()

    async def _describe(self, request: Request) -> Response:
        space = self._find_space("{owner}/{name}".format(**request.path_params))
        if space is None or not space.is_visible_to(find_current_user(request)):
            raise repository_not_found_error()
        host_url = f"{get_hub_url(request)}{SPACE_PROXY_PATH}/{space.subdomain}"
        return JSONResponse(space.to_dict(host_url))

    async def _proxy(self, request: Request) -> Response:
        space = self._find_by_subdomain(request.path_params["subdomain"])
        user = self._users.get(
            request.headers.get("x-hf-authorization", "").removeprefix("Bearer ")
        )
        if space is None or not space.is_visible_to(user):
            return HTMLResponse("Sorry, we can't find the page.", HTTPStatus.NOT_FOUND)
        if space.id == PAUSED_SPACE:
            return HTMLResponse("This Space is paused.", HTTPStatus.SERVICE_UNAVAILABLE)
        self._app.wake()
        if self._app.stage != "RUNNING":
            return HTMLResponse("Preparing Space.", HTTPStatus.SERVICE_UNAVAILABLE)
        return await self._forward(request)

    async def _forward(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii").split("/", 4)[4]
        query = request.url.query
        app_request = self._client.build_request(
            request.method,
            f"{self._app.url}/{path}{f'?{query}' if query else ''}",
            headers=_drop_headers(request.headers, _UNFORWARDED_HEADERS),
            content=await request.body(),
        )
        answer = await self._client.send(app_request, stream=True)
        return StreamingResponse(
            _stream_body(answer),
            answer.status_code,
            _drop_headers(answer.headers, _HOP_BY_HOP_HEADERS),
            background=BackgroundTask(answer.aclose),
        )

    def _find_space(self, name: str) -> _Space | None:
        if not SpaceAppProcess.is_gradio_installed():
            return None
        if name == PAUSED_SPACE:
            return _Space(name, None, "PAUSED")
        owner, _, space_name = name.partition("/")
        if name == PUBLIC_SPACE:
            return _Space(name, None, self._app.stage)
        if space_name == _PRIVATE_SPACE_NAME and owner in self._owners:
            return _Space(name, owner, self._app.stage)
        return None

    def _find_by_subdomain(self, subdomain: str) -> _Space | None:
        names = [
            PUBLIC_SPACE,
            PAUSED_SPACE,
            *(f"{owner}/{_PRIVATE_SPACE_NAME}" for owner in self._owners),
        ]
        spaces = filter(None, map(self._find_space, names))
        return next((space for space in spaces if space.subdomain == subdomain), None)


async def _stream_body(answer: httpx2.Response) -> AsyncGenerator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        # When the client hangs up, hang up at the app too: so a Space learns of it.
        await answer.aclose()


def _drop_headers(headers: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}
