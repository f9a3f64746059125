"""Nothing expensive is launched before a person has agreed to just that."""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import httpx2
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import RequestStateSecurity
from mcp_types import CallToolResult, ElicitResult
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from schema.accounts.vault import Secret
from service.auth.caller import Caller, TokenKind
from service.jobs.approval import ApprovalQuestion
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.tool import CREATES, McpTool, build_tool, tool_result
from service.runtime.context import CURRENT_CALLER
from service.runtime.sealed_tokens import ConfirmationTokens
from tests.support.http_server import serve_app
from tests.support.mcp.client import answer_text, open_mcp_client, post_message, read_refusal
from tests.support.mcp.observed_answers import META_PREFIX, MODERN_REQUEST_META
from tests.support.mcp.users import ElicitedUser
from tests.support.subjects import ADA_ID, ADA_TOKEN, BOB_ID

KEY: Final = b"k" * 32
CALLERS: Final = {
    token: Caller(subject, name, TokenKind.WRITE, Secret(token))
    for token, subject, name in (("hf_ada", ADA_ID, "ada"), ("hf_bob", BOB_ID, "bob"))
}


class HoursView(BaseModel):
    """What the tool of these tests shows."""

    hours: int


@dataclass
class ConfirmingService:
    """Launches what costs a dollar an hour, and remembers it; several replicas of one service."""

    urls: list[str] = field(default_factory=list[str])
    hourly_micro_usd: int | None = 1_000_000
    threshold_micro_usd: int | None = 2_000_000
    launched: list[tuple[int, str | None]] = field(default_factory=list[tuple[int, str | None]])

    @property
    def url(self) -> str:
        """One of them."""
        return self.urls[0]

    def make_tool(self, name: str) -> McpTool:
        """Make the tool."""

        async def question(hours: int) -> ApprovalQuestion:
            ceiling = None if self.hourly_micro_usd is None else self.hourly_micro_usd * hours
            return ApprovalQuestion(f"{hours}h of it", ceiling, self.threshold_micro_usd)

        async def launch(
            hours: int,
            secrets: dict[str, str] | None = None,
            confirm: ConfirmationToken = None,
            *,
            approval: Annotated[Approval, require_approval(question)],
        ) -> Annotated[CallToolResult, HoursView]:
            """Launch."""
            self.launched.append((hours, approval.idempotency_key))
            return tool_result("Launched.", HoursView(hours=hours))

        launch.__name__ = name
        return build_tool(launch, name, CREATES)

    def make_replica(self, key: bytes = KEY) -> Starlette:
        """Make one of the services."""

        @dataclass
        class Lent:
            confirmation_tokens: ConfirmationTokens

        @asynccontextmanager
        async def lend(_: MCPServer[Lent]) -> AsyncGenerator[Lent]:
            yield Lent(ConfirmationTokens([key]))

        def principal(_: object) -> str | None:
            caller = CURRENT_CALLER.get()
            return caller.subject_id if caller else None

        server = MCPServer[Lent](
            "shop",
            tools=list[Any]([self.make_tool("launch"), self.make_tool("relaunch")]),
            lifespan=lend,
            request_state_security=RequestStateSecurity(keys=[key], bind_principal=principal),
            subscriptions=False,
        )
        server.streamable_http_app(stateless_http=True, json_response=True)
        sessions = server.session_manager

        class Door:
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                token = Headers(scope=scope)["authorization"].removeprefix("Bearer ")
                entered = CURRENT_CALLER.set(CALLERS[token])
                await sessions.handle_request(scope, receive, send)
                CURRENT_CALLER.reset(entered)

        @asynccontextmanager
        async def running(_: Starlette) -> AsyncGenerator[None]:
            async with sessions.run():
                yield

        return Starlette(routes=[Route("/mcp", Door())], lifespan=running)


@pytest.fixture
def confirming_service() -> Generator[ConfirmingService]:
    """Two replicas."""
    shop = ConfirmingService()
    with ExitStack() as stack:
        shop.urls = [stack.enter_context(serve_app(shop.make_replica())) for _ in range(2)]
        yield shop


def make_agreeing_user() -> ElicitedUser:
    """Somebody who says yes."""
    return ElicitedUser(ElicitResult(action="accept", content={"launch": True}))


def make_capabilities(**elicitation: Any) -> dict[str, Any]:
    """Say what a modern client can do."""
    able = {f"{META_PREFIX}/clientCapabilities": {"elicitation": elicitation}}
    return MODERN_REQUEST_META | able


async def launch(
    url: str,
    *,
    caller_token: str = ADA_TOKEN,
    tool: str = "launch",
    mode: str = "legacy",
    **arguments: Any,
) -> CallToolResult:
    """Call the tool through a client that cannot ask its person."""
    async with open_mcp_client(url, caller_token, mode=mode) as client:
        return await client.call_tool(tool, arguments)


def read_sealed_token(answer: CallToolResult) -> str:
    """Return the confirmation token in a refusal."""
    assert read_refusal(answer)["code"] == "NeedsConfirmation"
    match = re.search(r'confirm="([^"]+)"', answer_text(answer))
    assert match is not None
    return match[1]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize(("hours", "threshold"), [(2, 2_000_000), (999, None)])
async def test_what_is_cheap_enough_asks_nobody(
    confirming_service: ConfirmingService, mode: str, hours: int, threshold: int | None
) -> None:
    """Up to the threshold, and where there is none, a launch is one call."""
    confirming_service.threshold_micro_usd = threshold

    answer = await launch(confirming_service.url, mode=mode, hours=hours)

    assert not answer.is_error
    assert confirming_service.launched == [(hours, None)]


async def test_a_client_that_can_ask_its_person_does(confirming_service: ConfirmingService) -> None:
    """The model has no part in it: the question goes to the person, the launch goes on."""
    person = make_agreeing_user()
    async with open_mcp_client(confirming_service.url, elicitation_callback=person) as client:
        answer = await client.call_tool("launch", {"hours": 3})

    assert not answer.is_error
    assert person.questions == ["3h of it may cost $3.00; above $2.00 a person is asked first."]
    assert confirming_service.launched == [(3, None)]


@pytest.mark.parametrize(
    "word",
    [
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        ElicitResult(action="accept", content={"launch": False}),
    ],
)
async def test_a_person_who_does_not_agree_is_obeyed(
    confirming_service: ConfirmingService, word: ElicitResult
) -> None:
    """A form sent without the tick is no consent either."""
    async with open_mcp_client(
        confirming_service.url, elicitation_callback=ElicitedUser(word)
    ) as client:
        answer = await client.call_tool("launch", {"hours": 3})

    assert read_refusal(answer)["code"] == "Declined"
    assert "nothing was launched" in answer_text(answer)
    assert confirming_service.launched == []


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_that_cannot_ask_launches_in_two_steps(
    confirming_service: ConfirmingService, mode: str
) -> None:
    """Most hosts cannot: the model is told the price, and what to say once the person agrees."""
    first = await launch(confirming_service.url, mode=mode, hours=3)

    assert confirming_service.launched == []
    assert "3h of it may cost $3.00" in answer_text(first)
    assert "Tell the person" in answer_text(first)
    again = await launch(
        confirming_service.url, mode=mode, hours=3, confirm=read_sealed_token(first)
    )
    assert not again.is_error
    assert [hours for hours, _ in confirming_service.launched] == [3]


async def test_a_client_whose_answer_could_not_reach_us_is_not_asked(
    confirming_service: ConfirmingService,
) -> None:
    """In the legacy protocol its answer would come on a connection that we do not hold."""
    person = make_agreeing_user()
    async with open_mcp_client(
        confirming_service.url, mode="legacy", elicitation_callback=person
    ) as client:
        answer = await client.call_tool("launch", {"hours": 3})

    assert read_refusal(answer)["code"] == "NeedsConfirmation"
    assert person.questions == []


async def test_a_client_without_forms_is_not_asked(confirming_service: ConfirmingService) -> None:
    """One that only opens links would break the call with an error of the protocol."""
    meta = make_capabilities(url={})
    params: dict[str, Any] = {"name": "launch", "arguments": {"hours": 3}, "_meta": meta}
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call"}
    answer = (
        await post_message(
            confirming_service.url, "tools/call", params, mcp_name="launch", **headers
        )
    ).json()

    assert answer["result"]["_meta"]["holdfast/error"]["code"] == "NeedsConfirmation"


async def test_a_price_nobody_knows_is_above_every_threshold(
    confirming_service: ConfirmingService,
) -> None:
    """What cannot be bounded is for a person to decide."""
    confirming_service.hourly_micro_usd = None

    answer = await launch(confirming_service.url, hours=1)

    assert "has no known price" in answer_text(answer)
    assert not (
        await launch(confirming_service.url, hours=1, confirm=read_sealed_token(answer))
    ).is_error


@pytest.mark.parametrize(
    "changed",
    [
        {"hours": 4},
        {"caller_token": "hf_bob"},
        {"tool": "relaunch"},
        {"secrets": {"KEY": "SESAME"}},
    ],
)
async def test_consent_to_one_call_is_none_to_another(
    confirming_service: ConfirmingService, changed: dict[str, Any]
) -> None:
    """Other arguments, another person, another tool: the question is asked anew."""
    token = read_sealed_token(await launch(confirming_service.url, hours=3))

    repeated: dict[str, Any] = {"hours": 3, "confirm": token, **changed}
    answer = await launch(confirming_service.url, **repeated)

    assert read_sealed_token(answer) != token
    assert confirming_service.launched == []


async def test_consent_to_one_price_is_none_to_another(
    confirming_service: ConfirmingService,
) -> None:
    """Nor if it differs by less than a cent, which no sentence shows."""
    token = read_sealed_token(await launch(confirming_service.url, hours=3))
    confirming_service.hourly_micro_usd = 1_000_001

    answer = await launch(confirming_service.url, hours=3, confirm=token)

    assert read_sealed_token(answer) != token
    assert confirming_service.launched == []


@pytest.mark.parametrize("token", ["", "yes", "true", "A" * 63 + "="])
async def test_made_up_consent_is_none(confirming_service: ConfirmingService, token: str) -> None:
    """A model in a hurry may try."""
    assert (
        read_refusal(await launch(confirming_service.url, hours=3, confirm=token))["code"]
        == "NeedsConfirmation"
    )
    assert confirming_service.launched == []


async def test_every_replica_knows_what_another_has_asked(
    confirming_service: ConfirmingService,
) -> None:
    """Nothing is held in a session; the next call may go anywhere."""
    here, there = confirming_service.urls
    token = read_sealed_token(await launch(here, hours=3))

    assert not (await launch(there, hours=3, confirm=token)).is_error


async def test_a_question_put_by_one_replica_is_answered_at_another(
    confirming_service: ConfirmingService,
) -> None:
    """The state of the question goes with the client, sealed, and is of no use to another."""
    here, there = confirming_service.urls
    meta = make_capabilities()
    headers: dict[str, str] = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call"}

    async def send(url: str, caller_token: str = ADA_TOKEN, **more: Any) -> httpx2.Response:
        params: dict[str, Any] = {"name": "launch", "arguments": {"hours": 3}, "_meta": meta}
        token = {"authorization": f"Bearer {caller_token}"}
        return await post_message(
            url, "tools/call", params | more, mcp_name="launch", **headers, **token
        )

    pending = (await send(here)).json()["result"]
    [question] = pending["inputRequests"]
    word = {question: {"action": "accept", "content": {"launch": True}}}
    answered: dict[str, Any] = {"inputResponses": word, "requestState": pending["requestState"]}

    stolen = (await send(there, caller_token="hf_bob", **answered)).json()
    assert stolen["error"]["code"] == -32602
    assert confirming_service.launched == []
    assert "error" not in (await send(there, **answered)).json()
    assert confirming_service.launched == [(3, None)]


async def test_one_consent_is_one_launch(confirming_service: ConfirmingService) -> None:
    """A repeated call has the idempotency key of the first; another consent has another."""
    tokens = [read_sealed_token(await launch(confirming_service.url, hours=3)) for _ in range(2)]
    for token in (tokens[0], f" {tokens[0]}", tokens[1]):
        await launch(confirming_service.url, hours=3, confirm=token)

    first, again, other = (once for _, once in confirming_service.launched)
    assert first == again
    assert first is not None
    assert other not in {first, None}


def test_a_tool_that_may_ask_takes_the_consent_too(confirming_service: ConfirmingService) -> None:
    """And nothing else of it is an argument that a model could fill in."""
    assert set(confirming_service.make_tool("launch").parameters["properties"]) == {
        "hours",
        "secrets",
        "confirm",
    }
