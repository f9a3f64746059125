"""Lines for a terminal that are pasted as the command of launch_job, and the calls offered.

A correct call that a refusal offers is copied as it is. So it has to be accepted, and no secret may
stand in it. Thousands of lines are tried by

    .venv/bin/python -m pytest -n 0 --hypothesis-profile=thorough -k whatever_is_pasted
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

import anyio.to_thread
import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.support.factories import StartService
from tests.support.http_clients import HttpClient
from tests.support.subjects import ADA_TOKEN

HEADERS: Final = {
    "authorization": f"Bearer {ADA_TOKEN}",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}
SECRET: Final = "s3same-0pen"
ABSENT_PROGRAMS: Final = (
    *("docker run --rm img python x.py", "sudo podman run img cmd", "nerdctl container run img"),
    *(f"docker run -e TOKEN={SECRET} img cmd", f"podman run --env 'DB={SECRET}' img cmd"),
    *("uv run https://example.com/x.py", "uvx ruff check .", "uv run -m pytest", "uv pip list"),
    *("uv run --with trl python -c 'print(1)'", f"KEY={SECRET} uv run x.py --token {SECRET}"),
)
"""Lines that start what the image of a command that names none does not have."""
SHELL_PARTS: Final = (
    " | tee log",
    " &",
    " \u2014lr 1",
    "\u00a0x",
    " \\\n --a",
    " *.csv",
    " $HOME",
    " && echo done",
    " > out 2>&1",
    " ~/x",
    "",
)
PROGRAMS: Final = (
    *ABSENT_PROGRAMS,
    *("python x.py", "cd /app", "echo", "LR=1 python x.py", "bash -c 'python x.py'", "ls"),
    *(f"export API_KEY={SECRET}", f"curl -H 'Authorization: Bearer {SECRET}-{SECRET}' a.org"),
    *(
        f"python x.py --api-key {SECRET}",
        f"git clone https://ada:{SECRET}@a.org/x",
        "bash python x",
    ),
    *("hf jobs run img cmd", f"hf jobs run --secrets KEY={SECRET} img cmd", "'oops", "python -u x"),
)
OTHER_ARGUMENTS: Final[SearchStrategy[dict[str, Any]]] = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["my/image:1", "My/Image", "docker run img", None]),
        "flavor": st.sampled_from(["t4-small", "t4-smal", "nonsense"]),
        "flavour": st.just("t4-small"),
        "env": st.sampled_from([{"A": "1"}, {"API_KEY": SECRET}, {"AA": "1"}, f"KEY={SECRET}"]),
        "timeout": st.sampled_from(["1h", "-5"]),
        "max_cost_usd": st.sampled_from([100, 0.000001]),
        "script_args": st.just(["x"]),
        "after": st.just(["job_01krz4c0s0e5xv4k6w2q8ntb7m"]),
        "labels": st.sampled_from([{"a": "b"}, {"a b": "c"}]),
    },
)


def list_forms(line: str) -> Iterator[Any]:
    """Write a line in the ways in which a client may send it."""
    yield line
    yield [line]
    yield line.split()
    yield ["sh", "-c", line]
    yield json.dumps(["bash", "-lc", line])
    try:
        yield shlex.split(line)
    except ValueError:
        yield [line, line]


LINES: Final = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "sudo ", "$ ", "cd /app && ", "!", "```\n", "%%bash\n", "time "]),
    st.sampled_from(PROGRAMS),
    st.sampled_from(SHELL_PARTS),
)
COMMANDS: Final = LINES.flatmap(lambda line: st.sampled_from(list(list_forms(line))))


@pytest.fixture
def client(start_service: StartService) -> Any:
    """A client of a service that takes any number of calls."""
    with start_service() as url, HttpClient(base_url=url, headers=HEADERS, timeout=60) as opened:
        yield opened


def launch_job(client: httpx2.Client, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Call the tool, and return its result."""
    params = {"name": "launch_job", "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    result: dict[str, Any] = client.post("/mcp", json=message).json()["result"]
    return result


def expect_sound_advice(client: httpx2.Client, arguments: Mapping[str, Any]) -> str:
    """Make a call; if it is refused, make the one that is offered. Return what was answered."""
    result = launch_job(client, {**arguments, "dry_run": True})
    text = "\n".join(part.get("text", "") for part in result["content"])
    if not result.get("isError"):
        return text
    assert SECRET not in json.dumps(result), text
    offered: str = result["_meta"]["holdfast/error"].get("next_call", "")
    if offered.startswith("launch_job "):
        second = launch_job(client, json.loads(offered.removeprefix("launch_job ")))
        assert not second.get("isError"), (text, second["content"])
    return text


@pytest.mark.parametrize("part", SHELL_PARTS)
async def test_a_line_of_a_program_that_is_not_there_says_so_whatever_else_it_needs(
    client: httpx2.Client, part: str
) -> None:
    """The advice to call a shell was refused in the next call: the shell finds no docker either."""
    for program in ABSENT_PROGRAMS:
        text = await anyio.to_thread.run_sync(
            expect_sound_advice, client, {"command": program + part}
        )

        assert "the image of a command that names none, has no" in text, (program, text)
        assert "correct call" not in text


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_correct_call_is_offered_only_if_it_would_be_accepted_and_has_no_secret(
    client: httpx2.Client, program: str
) -> None:
    """The name of one argument is wrong; the command may be as well, or may have a secret."""
    text = await anyio.to_thread.run_sync(
        expect_sound_advice, client, {"command": program, "flavour": "t4-small"}
    )

    assert "flavour" in text


@pytest.mark.timeout(300)  # thousands of examples, which are slow beside other tests
async def test_whatever_correct_call_is_offered_for_what_is_pasted_is_accepted(
    client: httpx2.Client,
) -> None:
    """It has passed all the checks of a launch, and repeats no secret."""

    @settings(
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(COMMANDS, OTHER_ARGUMENTS)
    def expect_sound(command: Any, others: dict[str, Any]) -> None:
        expect_sound_advice(client, {"command": command, **others})

    await anyio.to_thread.run_sync(expect_sound)
