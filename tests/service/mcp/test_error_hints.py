"""Everything a caller can get wrong, tool by tool: each refusal says what to do."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from schema.common.errors import (
    AnonymousRateLimited,
    BudgetExceeded,
    Conflict,
    HoldfastError,
    IdempotencyConflict,
    InDoubt,
    Invalid,
    LimitReached,
    NameTaken,
    NotFound,
    RateLimited,
    RoleRefused,
    TooManyLinks,
    TooManySchedules,
    TooManyUploads,
    TooManyWaits,
    Unauthenticated,
    Unavailable,
    WorkspaceArchived,
)
from service.auth.authenticators import HubAuthorityRefused
from service.auth.caller import (
    InsufficientScope,
    LaunchDenied,
    NamespaceDenied,
    Scope,
    SignInLacksScope,
    TokenKind,
)
from service.auth.connected_accounts import ConnectionLost, HubAuthorityMissing
from service.jobs.approval import ApprovalQuestion
from service.jobs.retries import RetryRefused
from service.mcp.confirmation import Declined, NeedsConfirmation
from service.mcp.error_hints import build_error_hint
from service.mcp.tools.outside_jobs import NoSuchOutsideJob
from service.runtime.toolsets import ToolNotChosen
from tests.support.mcp.client import answer_text, open_mcp_client, post_message, read_refusal
from tests.support.mcp.valid_arguments import UNKNOWN_JOB_ID, complete_arguments

RETRY_AFTER: Final = timedelta(seconds=2)
FAILURES: Final[tuple[HoldfastError, ...]] = (
    NotFound("job", "job_x"),
    NoSuchOutsideJob("6a31d7ef5ff0a6cf94f9f8b9", "ada"),
    Conflict("There is no result yet."),
    IdempotencyConflict("k", "job_x", ["flavor"]),
    LimitReached(open_jobs=1, max_open_jobs=1),
    TooManyLinks(50, 50, datetime(2026, 12, 1, tzinfo=UTC)),
    TooManyWaits(1),
    TooManySchedules(1),
    TooManyUploads("uploads", limit=1, used=1),
    BudgetExceeded(
        "month",
        budget_micro_usd=1,
        spent_micro_usd=1,
        held_micro_usd=0,
        ceiling_micro_usd=1,
        max_timeout=RETRY_AFTER,
    ),
    NameTaken("llama", "ws_x"),
    WorkspaceArchived("ws_x"),
    NeedsConfirmation(ApprovalQuestion("t4-small for up to 1h", 2, 1), "seal"),
    Declined(ApprovalQuestion("t4-small for up to 1h", 2, 1)),
    RetryRefused("It would only fail again."),
    Invalid("command is missing."),
    Unauthenticated("Sign in again."),
    RateLimited(limit=1, window=RETRY_AFTER, retry_after=RETRY_AFTER),
    AnonymousRateLimited(limit=1, window=RETRY_AFTER, retry_after=RETRY_AFTER),
    Unavailable("The database"),
    RoleRefused("holdfast_tenant", "no"),
    InDoubt("The database"),
    InsufficientScope(Scope.JOBS, TokenKind.READ),
    NamespaceDenied("org", "ada", TokenKind.OAUTH),
    LaunchDenied("ada", "no."),
    HubAuthorityMissing("https://holdfast.example/connect"),
    ConnectionLost("https://holdfast.example/connect"),
    ToolNotChosen("launch_job"),
    HubAuthorityRefused(Unauthenticated("Sign in again.")),
    SignInLacksScope("https://id.example", ["mcp:write"]),
)
"""One of each that a tool can meet."""
NEVER_SHOWN: Final = {
    *("Denied", "Unsealable", "NotAgreedTo"),
    *(
        "WrongRevision",
        "ReleaseTooOld",
        "CannotStart",
        "AlreadyRunning",
        "CannotListen",
        "LocalStackMissing",
    ),
    *("CannotConnect", "MissingPrivileges", "MigrationFailed", "NoSuchSubject"),
    *("SignInRateLimited", "SignInFailed", "FileRefused"),
    *("OtherVaultKey", "WrongVaultKey", "BackupRefused"),
    *("ExportRefused", "ForgetRefused", "ConnectRefused"),
}
"""An abstract one, two of workers, two of pages, and those that end a process or a command, or let
none begin.
"""

LONG_ARGUMENTS: Final = {"inputs", "command", "script"}

SEVERAL_MISTAKES: Final[dict[str, Any]] = {
    "image": "python 3.12",
    "command": "cd /app && x",
    "flavor": "A10G!",
    "timeout": "-5",
    "env": {"1A": "x"},
    "labels": {"a b": "c"},
    "flavour": "t4",
}


def list_subclasses(kind: type[HoldfastError]) -> set[str]:
    """Name every kind of failure there is."""
    return {kind.__name__}.union(*map(list_subclasses, kind.__subclasses__())) - {"HoldfastError"}


def test_every_kind_of_failure_is_looked_at_here() -> None:
    """One that is added without a remedy is noticed."""
    looked_at = {type(failure).__name__ for failure in FAILURES}

    assert list_subclasses(HoldfastError) - NEVER_SHOWN == looked_at


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_every_kind_of_failure_has_a_sentence_and_a_remedy(failure: HoldfastError) -> None:
    """A program finds each where it looks for it; a call that is named can be made as it stands."""
    cure = build_error_hint(failure)

    assert failure.code
    assert str(failure)
    assert cure.advice.endswith(".")
    assert cure.advice != "Tell the operator of Holdfast what you called."
    if cure.next_call:
        name, arguments = cure.next_call.split(" ", 1)
        assert name.isidentifier()
        assert isinstance(json.loads(arguments), dict)


def make_wrong_value(schema: dict[str, Any]) -> Any:
    """Make a value of a type that an argument does not take."""
    kinds = [schema, *schema.get("anyOf", [])]
    return 5.5 if any(kind.get("type") == "object" for kind in kinds) else {"odd": [None]}


def make_mistakes(tool: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """Make each mistake with each argument; say of which it is certain that they are mistakes."""
    shape: dict[str, dict[str, Any]] = tool["inputSchema"]["properties"]
    required = tool["inputSchema"].get("required", [])
    made: list[tuple[str, dict[str, Any], bool]] = [("unknown", {"nonsense": 1}, True)]
    if required:
        made.append(("missing", {}, True))
    for name, schema in shape.items():
        made += [
            (f"{name}: wrong type", {name: make_wrong_value(schema)}, name != "parameters"),
            (f"{name}: empty", {name: ""}, name in required),
            (f"{name}: too long", {name: "x" * 70_000}, name not in LONG_ARGUMENTS),
        ]
    return made


async def test_every_mistake_with_every_tool_is_answered_with_what_to_do(service_url: str) -> None:
    """No traceback, no silence, no page of the mistake itself: its parts, and short."""
    tools = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    seen = 0

    async with open_mcp_client(service_url) as client:
        for tool in tools:
            required_names = tool["inputSchema"].get("required", [])
            valid_arguments = complete_arguments(tool["name"], required_names)
            for mistake, wrong, certain in make_mistakes(tool):
                arguments = wrong if mistake == "missing" else valid_arguments | wrong
                answer = await client.call_tool(tool["name"], arguments)
                where = f"{tool['name']}, {mistake}: {answer_text(answer)[:300]}"
                assert answer.is_error or not certain, where
                if not answer.is_error:
                    continue
                error = read_refusal(answer)
                assert error.keys() - {"next_call"} == {"code", "message", "remedy"}, where
                assert all(error.values()), where
                assert error["code"] in {"Invalid", "NotFound", "NamespaceDenied"}, where
                assert len(answer_text(answer)) < 2000, where
                if mistake.endswith(("type", "long")) and error["code"] == "Invalid":
                    assert next(iter(wrong)) in answer_text(answer) or "handle" in answer_text(
                        answer
                    ), where
                seen += 1

    assert seen > 5 * len(tools)


async def test_everything_that_is_wrong_is_told_at_once(service_url: str) -> None:
    """One round trip to get it right, not one for each slip."""
    async with open_mcp_client(service_url) as client:
        answer = await client.call_tool("launch_job", SEVERAL_MISTAKES)

    assert read_refusal(answer)["code"] == "Invalid"
    for argument in SEVERAL_MISTAKES:
        assert f"{argument}: " in answer_text(answer) or f"no argument {argument}" in answer_text(
            answer
        )
    assert "did you mean flavor?" in answer_text(answer)


@pytest.mark.parametrize(
    ("tool", "wrong", "right"),
    [
        ("launch_job", {"command": "cd /app && ls"}, {"command": ["sh", "-c", "cd /app && ls"]}),
        ("launch_job", {"command": ["python -u", "x.py"]}, {"command": ["python", "-u", "x.py"]}),
        ("launch_job", {"flavour": "t4-small"}, {"flavor": "t4-small"}),
        ("launch_job", {"flavor": "t4-smal"}, {"flavor": "t4-small"}),
        ("launch_job", {"flavour": "t4-small", "timeout": "-5"}, None),
        ("launch_job", {"flavour": "t4-small", "secrets": {"AB": "hidden-value"}}, None),
        ("launch_job", {"nonsense": 1}, None),
        ("launch_job", {"flavour": {"name": "t4-small"}}, None),
        ("list_jobs", {"state": ["rrunning"], "limit": 3}, {"state": ["running"], "limit": 3}),
        ("job_status", {"ids": [UNKNOWN_JOB_ID]}, None),
    ],
)
async def test_a_correct_call_is_the_callers_own_with_its_mistake_corrected(
    service_url: str, tool: str, wrong: dict[str, Any], right: dict[str, Any] | None
) -> None:
    """An example with the arguments of nobody is copied by a model, and runs something else."""
    own = {"image": "my/image:1", "name": "mine"} if tool == "launch_job" else {}
    command = {} if "command" in wrong or not own else {"command": ["true"]}
    async with open_mcp_client(service_url) as client:
        answer = await client.call_tool(tool, own | command | wrong)
        error = read_refusal(answer)

        assert "hidden-value" not in answer_text(answer)
        if right is None:
            assert "next_call" not in error
            assert "correct call" not in answer_text(answer)
        else:
            assert f"A correct call: {error['next_call']}" in answer_text(answer)
            arguments = json.loads(error["next_call"].removeprefix(tool))
            assert arguments == own | command | right
            corrected = await client.call_tool(tool, arguments)
            assert not corrected.is_error, answer_text(corrected)


@pytest.mark.parametrize(
    ("tool", "wrong", "says"),
    [
        ("list_jobs", {"state": "rrunning"}, "state[0]: rrunning is none of queued, launching, "),
        ("list_jobs", {"state": "rrunning"}, "Did you mean running"),
        (
            "list_jobs",
            {"kind": "job"},
            "none of hub_job, inference, batch, space_call. Did you mean hub_job?",
        ),
        ("list_jobs", {"labels": "team=nlp"}, 'write an object, such as {"NAME": "value"}'),
        ("launch_inference", {"task": "chat"}, "Did you mean chat-completion?"),
        ("launch_inference", {"parameters": {"stream": True}}, "'stream' is not a parameter"),
        ("launch_inference", {"timeout": "2 hours"}, "too long; from 1s to 1h is allowed"),
        ("launch_job", {"timeout": "0s"}, "from 1s to 30d is allowed"),
        ("launch_job", {"pass_token": "perhaps"}, "write true or false"),
        (
            "launch_job",
            {"outputs": ["../x"]},
            "outputs[0]: '../x' is not inside of /outputs; write",
        ),
    ],
)
async def test_a_refusal_shows_the_choices_and_what_was_nearly_right(
    service_url: str, tool: str, wrong: dict[str, Any], says: str
) -> None:
    """A model that is told its choices does not guess."""
    valid_arguments: dict[str, dict[str, Any]] = {
        "launch_job": {"image": "python:3.12", "command": "true"},
        "launch_inference": {"model": "m/m", "inputs": "Hi"},
        "list_jobs": {},
    }
    async with open_mcp_client(service_url) as client:
        answer = await client.call_tool(tool, valid_arguments[tool] | wrong)

    assert says in answer_text(answer)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h30m", 5400), ("2 hours", 7200), ("PT1H30M", 5400), (3600, 3600), ("60", 60)],
)
async def test_a_timeout_means_what_it_says(
    service_url: str, written: object, seconds: int
) -> None:
    """A server that is much used reads the first as a second, and the second as two."""
    async with open_mcp_client(service_url) as client:
        answer = await client.call_tool(
            "launch_job",
            {"image": "i", "command": "true", "timeout": written, "idempotency_key": "k"},
        )
        same = await client.call_tool(
            "launch_job",
            {"image": "i", "command": ["true"], "timeout": seconds, "idempotency_key": "k"},
        )

    assert not same.is_error, answer_text(same)
    assert answer.structured_content is not None
    assert same.structured_content is not None
    assert answer.structured_content["job_id"] == same.structured_content["job_id"]


async def test_names_are_read_in_whichever_case(service_url: str) -> None:
    """There is only one thing they can mean."""
    async with open_mcp_client(service_url) as client:
        answer = await client.call_tool("list_jobs", {"state": "Queued", "kind": "Hub-Job"})

    assert not answer.is_error, answer_text(answer)
