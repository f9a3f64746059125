"""A token of the Hub stands nowhere in the open: what is stored of a call can be read by others."""

from typing import Any

import pytest

from schema.common.errors import Invalid
from schema.db.database import Database
from schema.specs.inputs.hub_tokens import find_token
from service.mcp.token_check import expect_no_token
from service.mcp.tools.launch_job import LaunchJobArguments
from tests.support.mcp.client import answer_text, open_mcp_client, read_refusal

TOKEN = "hf_" + "AbCdEfGhIj" * 3 + "KlMn"  # nobody's
TOKENS = [
    TOKEN,
    "hf_oauth_eyJhbGciOi.eyJzdWIi-_.c2ln",
    "hf_oauth_" + "aB3" * 12,
    "api_org_" + "Zy9" * 12,
]
JOB: dict[str, Any] = {"command": ["true"]}
CALL: dict[str, Any] = {"model": "m/m", "inputs": "Hi"}
CRON = "0 9 * * 1"

IN_THE_OPEN: list[tuple[str, dict[str, Any], str]] = [
    ("launch_job", JOB | {"env": {"HF_TOKEN": TOKEN}}, 'secrets={"HF_TOKEN": "$HF_TOKEN"}'),
    ("launch_job", JOB | {"env": {"MY_KEY": f"Bearer {TOKEN}"}}, 'secrets={"MY_KEY": "…"}'),
    ("launch_job", JOB | {"env": [f"HF_TOKEN={TOKEN}"]}, "pass_token=true"),
    ("launch_job", JOB | {"env": {TOKEN: "x"}}, "pass_token=true"),
    ("launch_job", {"command": ["echo", "--token", TOKEN]}, "pass_token=true"),
    ("launch_job", {"command": f"x --token={TOKEN}"}, "pass_token=true"),
    ("launch_job", {"command": f'["x", "{TOKEN}"]'}, "pass_token=true"),
    ("launch_job", {"script": f"login('{TOKEN}')"}, "pass_token=true"),
    ("launch_job", {"script": "print(1)", "script_args": [TOKEN]}, "pass_token=true"),
    ("launch_job", {"script": "x()", "dependencies": [f"a @ https://{TOKEN}@x.y"]}, "pass_token"),
    ("launch_job", JOB | {"labels": {"tok": TOKEN}}, "pass_token=true"),
    ("launch_job", JOB | {"name": TOKEN}, "pass_token=true"),
    ("launch_job", JOB | {"image": f"user:{TOKEN}@ghcr.io/a/b"}, "pass_token=true"),
    ("launch_job", JOB | {"volumes": [f"hf://buckets/a/b/{TOKEN}:/data"]}, "pass_token=true"),
    ("launch_job", JOB | {"idempotency_key": TOKEN}, "pass_token=true"),
    ("launch_inference", CALL | {"inputs": f"My token is {TOKEN}"}, "made as you without it"),
    ("launch_inference", CALL | {"parameters": {"user": TOKEN}}, "made as you without it"),
    (
        "launch_inference",
        {"model": "m/m", "items": [{"custom_id": "1", "inputs": TOKEN}]},
        "made as you without it",
    ),
    ("launch_space_call", {"space": "a/b", "arguments": {"token": TOKEN}}, "made as you"),
    ("launch_space_call", {"space": "a/b", "arguments": [{"x": [TOKEN]}]}, "made as you"),
    ("create_schedule", {"cron": CRON, "job": JOB | {"env": {"HF_TOKEN": TOKEN}}}, "pass_token"),
    ("create_schedule", {"cron": CRON, "inference": CALL | {"name": TOKEN}}, "made as you"),
    (
        "retry_job",
        {"job_id": "job_x", "overrides": {"env": {"KEY": TOKEN}}},
        '{"KEY": "$HF_TOKEN"}',
    ),
    ("create_workspace", {"name": TOKEN}, "Leave it out"),
    ("update_workspace", {"workspace_id": "ws_x", "defaults": {"labels": {"a": TOKEN}}}, "Leave"),
]


async def test_a_token_in_the_open_is_refused_with_where_it_goes(
    service_url: str, database: Database
) -> None:
    """It would be shown in titles and at the Hub, though logs are searched for this very shape."""
    async with open_mcp_client(service_url) as client:
        for tool, arguments, says in IN_THE_OPEN:
            answer = await client.call_tool(tool, arguments)
            assert read_refusal(answer)["code"] == "Invalid", arguments
            assert "contains a token of Hugging Face" in answer_text(answer), arguments
            assert says in answer_text(answer), arguments
            assert TOKEN not in answer.model_dump_json(), arguments

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0


@pytest.mark.parametrize("token", TOKENS)
def test_each_kind_of_token_is_recognized(token: str) -> None:
    """Tokens of people, of sign-ins and of organisations."""
    with pytest.raises(Invalid):
        expect_no_token({"name": f"x={token}"}, LaunchJobArguments.model_fields)


async def test_a_token_among_secrets_is_taken(service_url: str) -> None:
    """There it is sealed; so it is in a schedule, and where a client packs the job into a text."""
    secrets = {"secrets": {"HF_TOKEN": TOKEN}}
    packed = '{"command": ["true"], "secrets": {"HF_TOKEN": "' + TOKEN + '"}}'
    async with open_mcp_client(service_url) as client:
        for tool, arguments in (
            ("launch_job", JOB | secrets),
            ("create_schedule", {"cron": CRON, "job": JOB | secrets}),
            ("create_schedule", {"cron": CRON, "job": packed}),
        ):
            answer = await client.call_tool(tool, arguments)
            assert not answer.is_error, answer_text(answer)


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download",
        "hf_oauth_callback_url",
        "from transformers import AutoModelForCausalLM as hf_AutoModel",
        "https://huggingface.co/settings/tokens",
        {"base64": f"-{TOKEN}"},
    ],
)
def test_a_text_that_only_looks_like_a_token_is_taken(text: object) -> None:
    """Names of functions; and any letters may follow each other in base 64."""
    assert find_token({"x": text}) is None
