"""A Hub that gives the answers that the test wrote, one after another."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.http_server import serve_app


@dataclass
class ScriptedHub:
    """A server that gives its answers in turn, and remembers the requests."""

    url: str = ""
    answers: list[Response] = field(default_factory=list[Response])
    requests: list[Request] = field(default_factory=list[Request])

    async def respond(self, request: Request) -> Response:
        """Give the next answer, whatever the request."""
        await request.body()
        self.requests.append(request)
        return self.answers.pop(0)


@contextmanager
def run_scripted_hub() -> Generator[ScriptedHub]:
    """Run such a Hub for the length of a block."""
    hub = ScriptedHub()
    routes = [Route("/{path:path}", hub.respond, methods=["GET", "POST"])]
    with serve_app(Starlette(routes=routes)) as hub.url:
        yield hub


def error_response(status: int, message: str = "no", **headers: str) -> Response:
    """Make a refusal, written as the Hub writes them."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": message}, status, {"x-error-message": message} | named)
