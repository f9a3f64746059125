"""The bridge and a server that does what a service, a proxy or a stranger may do to it.

The bridge is a real process. The server answers over real HTTP, as each test says, and remembers.
"""

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from threading import Event
from typing import Any, Final

import anyio
import pytest
from mcp.shared.inbound import encode_header_value
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from service.cli.stdio import messages, service_client
from service.cli.stdio.streams import MAX_LINE_BYTES, LineSplitter
from tests.support.http_server import serve_app
from tests.support.polling import wait_until
from tests.support.stdio import END, StdioProcess, run_stdio

TOKEN: Final = "hf_a_token_of_somebody"
ANSWER: Final = {"jsonrpc": "2.0", "id": 1, "result": {"ok": True}}
MODERN: Final = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
EVENT_STREAM: Final = "text/event-stream"
NOWHERE: Final = "http://127.0.0.1:9"

Reply = Callable[[Request, bytes], Awaitable[Response]]


class ScriptedServer:
    """Answers as it is told to, and remembers what arrived and who went away."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.left = Event()
        self.arrived = Event()
        self.reply: Reply | None = None
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Be the ASGI application."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
            return
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})

    async def _respond(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.arrived.set()
        response: Response = (
            JSONResponse({**ANSWER, "id": json.loads(body).get("id")})
            if self.reply is None
            else await self.reply(request, body)
        )
        await response(scope, receive, send)

    def answer_with(self, response: Callable[[], Response]) -> None:
        """Answer everything with a response."""

        async def reply(request: Request, body: bytes) -> Response:
            return response()

        self.reply = reply

    def hold_back(self, method: str) -> None:
        """Leave calls of a method open, and answer all others."""

        async def reply(request: Request, body: bytes) -> Response:
            fields = json.loads(body)
            if fields["method"] == method:
                return StreamingResponse(self._wait(request), media_type=EVENT_STREAM)
            return JSONResponse({**ANSWER, "id": fields.get("id")})

        self.reply = reply

    async def _wait(self, request: Request) -> AsyncGenerator[str]:
        try:
            yield ": ping\n\n"
            await anyio.sleep_forever()
        finally:
            self.left.set()


@pytest.fixture
def server() -> Generator[ScriptedServer]:
    scripted = ScriptedServer()
    with serve_app(scripted) as url:
        scripted.url = url
        yield scripted


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdio.log"


@pytest.fixture
def bridge(server: ScriptedServer, log: Path) -> Generator[StdioProcess]:
    """A bridge to it; a proxy of the environment would be the wrong way to this machine."""
    with run_stdio(
        server.url,
        log=log,
        environment={"HF_TOKEN": TOKEN, "HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE},
    ) as running:
        yield running


def json_response(text: str) -> Callable[[], Response]:
    return lambda: Response(text, media_type="application/json")


def event_stream(*chunks: str) -> Callable[[], Response]:
    return lambda: StreamingResponse(_yield_all(chunks), media_type=EVENT_STREAM)


async def _yield_all(chunks: tuple[str, ...]) -> AsyncGenerator[str]:
    for chunk in chunks:
        yield chunk


def test_a_message_goes_on_as_it_is_and_its_answer_comes_back(
    server: ScriptedServer, bridge: StdioProcess, log: Path
) -> None:
    """Byte for byte, also where two programs write the same JSON in two ways."""
    body = b'{"jsonrpc": "2.0",  "id":1, "method":"x", "params":{"n":1.0e0, "big":123456789012345}}'

    bridge.send(body)
    answer = bridge.receive()

    assert answer == ANSWER
    assert server.bodies == [body]
    assert server.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert "mcp-method" not in server.headers[0]
    assert TOKEN not in log.read_text()


def test_a_line_break_in_an_answer_does_not_break_the_line(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """JSON of some servers is indented; an event may have its data on several lines."""
    answer = {**ANSWER, "result": {"text": "two\nlines\r\n\u2028"}}
    text = json.dumps(answer, indent=1)
    events = "".join(f"data: {line}\n" for line in text.split("\n"))

    for reply in (json_response(text), event_stream(f"{events}\n")):
        server.answer_with(reply)
        assert bridge.ask("x") == answer


def test_an_answer_has_the_id_of_its_request(server: ScriptedServer, bridge: StdioProcess) -> None:
    """A batch that is refused, or a proxy, answers without one, and the client would wait."""
    server.answer_with(json_response(json.dumps({**ANSWER, "id": None})))

    assert bridge.ask("x") == ANSWER


def test_notifications_and_requests_of_the_service_come_through_before_the_answer(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """And what the client answers to them goes back."""
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    question = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"}
    stream = [f"data: {json.dumps(each)}\n\n" for each in (progress, question, ANSWER)]
    server.answer_with(event_stream(": ping\n\n", "id: 1\ndata:\n\n", *stream))

    bridge.request(1, "tools/call", {"name": "x"})

    assert [bridge.receive() for _ in range(3)] == [progress, question, ANSWER]
    reply = {"jsonrpc": "2.0", "id": "q", "result": {"action": "accept"}}
    server.answer_with(lambda: Response(status_code=202))
    bridge.send(reply)
    wait_until(lambda: len(server.bodies) == 2)
    assert json.loads(server.bodies[1]) == reply


def test_a_message_of_the_revision_without_a_handshake_has_its_headers(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """The service compares them with the body; on standard input there are none."""
    uri = "job://jób\r\nx-evil: 1"

    bridge.ask("resources/read", {"_meta": MODERN, "uri": uri})
    bridge.ask("tools/call", {"_meta": MODERN, "name": "whoami"})
    bridge.ask("x\r\nx-evil: 1", {"_meta": MODERN})

    read, call, strange = server.headers
    assert read["mcp-protocol-version"] == "2026-07-28"
    assert (read["mcp-method"], read["mcp-name"]) == ("resources/read", encode_header_value(uri))
    assert (call["mcp-method"], call["mcp-name"]) == ("tools/call", "whoami")
    assert "x-evil" not in read | strange


def test_after_a_handshake_the_version_that_was_agreed_is_named(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    answer = {**ANSWER, "result": {"protocolVersion": "2025-06-18"}}
    server.answer_with(json_response(json.dumps(answer)))

    bridge.ask("initialize", {"protocolVersion": "2025-11-25"})
    bridge.ask("tools/list")
    bridge.ask("initialize", {"protocolVersion": "2025-11-25"})

    versions = [headers.get("mcp-protocol-version") for headers in server.headers]
    assert versions == [None, "2025-06-18", None]


@pytest.mark.parametrize(
    "value", ["whoami", "a b", " a", "a ", "ä", "", "=?base64?eA==?=", "a\nb", "\x7f", "a\tb"]
)
def test_a_header_value_is_encoded_as_by_the_sdk(value: str) -> None:
    """`encode_header_value` is our own, because the SDK takes a second to import."""
    assert messages.encode_header_value(value) == encode_header_value(value)


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"garbage", messages.PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":1,', messages.PARSE_ERROR, None),
        (b"\xff\xfe{}", messages.PARSE_ERROR, None),
        (b"[" * 100_000, messages.PARSE_ERROR, None),
        (b'{"id":1' + b"0" * 5000 + b',"method":"x"}', messages.PARSE_ERROR, None),
        (b"17", messages.INVALID_REQUEST, None),
        (b"null", messages.INVALID_REQUEST, None),
        (b"{}", messages.INVALID_REQUEST, None),
        (b'{"id":1,"method":17}', messages.INVALID_REQUEST, None),
        (b'{"id":null,"method":"x"}', messages.INVALID_REQUEST, None),
        (b'{"id":{},"method":"x"}', messages.INVALID_REQUEST, None),
        (b'{"id":true,"method":"x"}', messages.INVALID_REQUEST, None),
    ],
)
def test_a_line_that_is_no_message_is_answered_and_goes_nowhere(
    line: bytes, code: int, request_id: Any
) -> None:
    with pytest.raises(messages.MalformedMessage) as error:
        messages.parse_client_message(line)

    assert error.value.code == code
    assert str(error.value).endswith(".")


def test_after_lines_that_are_no_messages_the_bridge_goes_on(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """Also after one that is longer than any message, of which nothing is kept."""
    bridge.send(b"garbage")
    bridge.send(b"")
    bridge.send(b"x" * (MAX_LINE_BYTES + 1))

    codes = [bridge.receive()["error"]["code"] for _ in range(2)]

    assert codes == [messages.PARSE_ERROR, messages.INVALID_REQUEST]
    assert bridge.ask("x") == ANSWER
    assert len(server.bodies) == 1


def test_lines_are_cut_wherever_the_pipe_cuts_them() -> None:
    """`LineSplitter`; a line that is too long is one refusal, and the next one counts anew."""
    for size in (1, 2, 3, 7, 100):
        text, splitter = b"abc\n\nabcdefg\nab\n" + b"z" * 40 + b"\nabcdef\nrest", LineSplitter(6)
        lines = [
            line
            for place in range(0, len(text), size)
            for line in splitter.feed(text[place : place + size])
        ]
        assert lines == [b"abc", b"", None, b"ab", None, b"abcdef"]


def test_large_messages_pass_in_both_directions(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    text = "ü" * 2_000_000
    server.answer_with(json_response(json.dumps({**ANSWER, "result": text}, ensure_ascii=False)))

    answer = bridge.ask("x", {"text": text})

    assert answer["result"] == text
    assert json.loads(server.bodies[0])["params"]["text"] == text


@pytest.mark.parametrize("media_type", ["application/json", EVENT_STREAM])
def test_an_answer_without_end_is_not_held_in_memory(
    server: ScriptedServer, bridge: StdioProcess, media_type: str
) -> None:
    async def fill() -> AsyncGenerator[bytes]:
        yield b"data: "
        for _ in range(service_client.MAX_ANSWER_BYTES // 1024**2 + 1):
            yield b"1" * 1024**2

    server.answer_with(lambda: StreamingResponse(fill(), media_type=media_type))

    assert "larger than" in bridge.ask("x")["error"]["message"]
    server.reply = None
    assert bridge.ask("x") == ANSWER


REFUSAL: Final = {"code": -32600, "message": "Nobody is signed in.", "data": {"why": "x"}}
REFUSALS: Final = {
    "401 in JSON": (
        lambda: JSONResponse({"jsonrpc": "2.0", "id": None, "error": REFUSAL}, 401),
        ("Nobody is signed in.", "HF_TOKEN", "https://huggingface.co/settings/tokens"),
    ),
    "401": (lambda: PlainTextResponse("x", 401), ("401", "HF_TOKEN", "settings/tokens")),
    "403": (lambda: PlainTextResponse("x", 403), ("403", "HF_TOKEN")),
    "404": (lambda: PlainTextResponse("x", 404), ("no MCP server", "Correct the URL")),
    "413": (lambda: PlainTextResponse("x", 413), ("too large", "less")),
    "429": (
        lambda: PlainTextResponse("x", 429, {"retry-after": "7"}),
        ("Too many calls", "in 7 s"),
    ),
    "429 with a date": (
        lambda: PlainTextResponse("x", 429, {"retry-after": "Tue, 01 Dec 2026"}),
        ("Too many calls", "in a minute"),
    ),
    "502 of a proxy": (lambda: PlainTextResponse("<h1>x</h1>", 502), ("502", "Call again")),
    "400": (lambda: JSONResponse(["x"], 400), ("400", "Check the URL")),
    "a page": (lambda: Response("<p>", media_type="text/html"), ("not in MCP", "Holdfast")),
    "no JSON": (json_response("{"), ("not in MCP",)),
    "a number": (json_response("17"), ("not in MCP",)),
    "deep JSON": (json_response("[" * 100_000), ("not in MCP",)),
    "bytes": (lambda: Response(b"\xff", media_type="application/json"), ("not in MCP",)),
    "202": (lambda: Response(status_code=202), ("not in MCP",)),
    "no event": (event_stream("data: {\n\n"), ("not in MCP",)),
    "a stream that ends": (event_stream(": ping\n\n"), ("not known whether", "idempotency_key")),
}
"""What a server answers, and words of the error that the client gets."""


@pytest.mark.parametrize("name", REFUSALS)
def test_every_failure_is_an_error_that_says_what_to_do(
    server: ScriptedServer, bridge: StdioProcess, name: str
) -> None:
    """And the next call is answered."""
    response, words = REFUSALS[name]
    server.answer_with(response)

    answer = bridge.ask("tools/call", {"name": "x"})

    assert answer["id"] == 1
    assert [word for word in words if word not in answer["error"]["message"]] == []
    assert "<" not in answer["error"]["message"]
    server.reply = None
    assert bridge.ask("x") == ANSWER


def test_what_a_refusal_says_to_programs_is_passed_on(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    server.answer_with(REFUSALS["401 in JSON"][0])

    error = bridge.ask("x")["error"]

    assert (error["code"], error["data"]) == (REFUSAL["code"], REFUSAL["data"])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_token_goes_nowhere_else(
    server: ScriptedServer, bridge: StdioProcess, status: int
) -> None:
    """Whoever can make a service redirect would have the token of everybody."""
    thief = ScriptedServer()
    with serve_app(thief) as elsewhere:
        server.answer_with(
            lambda: Response(status_code=status, headers={"location": f"{elsewhere}/mcp"})
        )
        answer = bridge.ask("x")

    assert thief.bodies == []
    assert elsewhere in answer["error"]["message"]


def test_a_notification_that_is_refused_is_not_answered(
    server: ScriptedServer, bridge: StdioProcess, log: Path
) -> None:
    """The client waits for nothing; its log has the reason."""
    server.answer_with(REFUSALS["401 in JSON"][0])
    bridge.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    wait_until(lambda: "Nobody is signed in." in log.read_text())
    server.reply = None

    assert bridge.ask("x") == ANSWER


def test_a_batch_is_one_exchange(server: ScriptedServer, bridge: StdioProcess) -> None:
    """One of notifications has no answer, and one that fails has one."""
    batch = [{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in (1, 2)]
    server.answer_with(json_response(json.dumps([ANSWER, {**ANSWER, "id": 2}])))
    bridge.send(batch)
    answers = bridge.receive()
    server.answer_with(lambda: Response(status_code=202))
    bridge.send([{"jsonrpc": "2.0", "method": "notifications/initialized"}])
    wait_until(lambda: len(server.bodies) == 2)
    server.answer_with(REFUSALS["404"][0])
    bridge.send(batch)

    assert [each["id"] for each in answers] == [1, 2]
    assert bridge.receive()["error"]["message"].startswith("There is no MCP server")


def test_a_cancelled_request_is_let_go_and_others_go_on(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """The service hears of it by the end of the request, and nothing is answered."""
    server.hold_back("slow")
    bridge.request("a", "slow")
    wait_until(server.arrived.is_set)
    assert bridge.ask("x") == ANSWER

    for request_id in (1, "b", None, ["a"], "a"):
        params = {"requestId": request_id}
        assert not server.left.is_set()
        bridge.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    assert server.left.wait(30)
    assert bridge.ask("x") == ANSWER
    assert len(server.bodies) == 3


def test_the_end_of_the_input_ends_the_bridge_whatever_is_open(
    server: ScriptedServer, bridge: StdioProcess
) -> None:
    """The client is gone."""
    server.hold_back("slow")
    bridge.request("a", "slow")
    wait_until(server.arrived.is_set)

    bridge.close_input()

    assert bridge.process.wait(30) == 0
    assert bridge.receive() == END
    assert server.left.wait(30)


def test_a_client_that_reads_no_more_ends_the_bridge(server: ScriptedServer, log: Path) -> None:
    """Some end without closing what they write to."""
    output, end = os.pipe()
    with run_stdio(server.url, log=log, output=end) as bridge:
        os.close(end)
        bridge.request(1, "x")
        wait_until(server.arrived.is_set)
        os.close(output)
        bridge.request(2, "x")

        assert bridge.process.wait(30) == 0
