"""Every reply fits what a host hands to its model."""

from typing import Any, Final

import pytest

from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from service.views.pages import DEFAULT_REPLY_BYTES, MAX_REPLY_BYTES
from tests.support.factories import JobFactory, StartService
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import post_message
from tests.support.mcp.valid_arguments import UNKNOWN_JOB_ID


async def read_reply(url: str, tool: str, **arguments: Any) -> tuple[dict[str, Any], int]:
    """Call a tool; return its result, and how many bytes the reply has."""
    answer = await post_message(url, "tools/call", {"name": tool, "arguments": arguments})
    result: dict[str, Any] = answer.json()["result"]
    return result, len(answer.content)


@pytest.fixture
async def failed_jobs(make_job: JobFactory, database: Database) -> list[str]:
    """Ten jobs that failed after they had printed long lines."""
    run_driver, handles = RunDriver(database), list[str]()
    for number in range(10):
        handles.append(job_handle(await make_job(title="t" * 80)))
        run_id = await run_driver.start_run(remote_id=f"{number:024x}")
        await run_driver.append_log(run_id, *(f"{'E' * 600} {line}" for line in range(30)))
        ending = RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 1)
        await run_driver.end_run(run_id, ending)
    return handles


@pytest.mark.parametrize("tool", ["list_jobs", "job_status", "wait_for_jobs"])
async def test_several_jobs_are_shown_in_brief(
    service_url: str, failed_jobs: list[str], tool: str
) -> None:
    """What one of them printed is one call away; ten of them took 114 kB."""
    arguments = {} if tool == "list_jobs" else {"job_ids": failed_jobs}

    result, size = await read_reply(service_url, tool, **arguments)

    jobs = result["structuredContent"]["jobs"]
    assert size <= DEFAULT_REPLY_BYTES // 2
    assert {job["job_id"] for job in jobs} == set(failed_jobs)
    for job in jobs:
        assert (job["state"], job["reason"]) == ("failed", "exit_nonzero")
        assert job["summary"].startswith("Failed: ")
        assert job["next_step"] == f'Call job_status(job_ids="{job["job_id"]}") for what to change.'
        assert len(job["log_tail"]) == 1
        assert job["job_id"] in result["content"][-1]["text"]


async def test_one_job_is_shown_whole(service_url: str, failed_jobs: list[str]) -> None:
    """The end of its log is what a model needs to mend it."""
    result, size = await read_reply(service_url, "job_status", job_ids=failed_jobs[0])

    [job] = result["structuredContent"]["jobs"]
    assert job["log_tail"][-1].endswith(" 29")
    assert len(job["log_tail"]) > 5
    assert job["labels"] == {}
    assert size <= DEFAULT_REPLY_BYTES


async def test_a_page_that_would_be_too_large_ends_earlier(service_url: str) -> None:
    """Its cursor leads to what follows, so each entry is seen once."""
    names = [f"{number:03}{'😀' * 97}" for number in range(120)]
    for name in names:
        await read_reply(service_url, "create_workspace", name=name)

    seen, cursor, lengths = list[str](), None, list[int]()
    while not seen or cursor is not None:
        arguments: dict[str, Any] = {"cursor": cursor} if cursor else {}
        result, size = await read_reply(service_url, "list_workspaces", limit=100, **arguments)
        page = result["structuredContent"]
        cursor = page["next_cursor"]
        assert size <= MAX_REPLY_BYTES
        assert cursor is None or f'cursor="{cursor}"' in result["content"][0]["text"]
        lengths.append(len(page["workspaces"]))
        seen += [workspace["name"] for workspace in page["workspaces"]]

    assert seen == names[::-1]
    assert 20 < lengths[0] < 100


async def test_jobs_of_the_hub_fit_a_reply_whatever_they_hold(
    service_url: str, fake_hub: FakeHub
) -> None:
    """Nobody here has checked them; a cursor leads to those for which there is no room."""
    for number in range(60):
        fake_hub.jobs[f"{number:024x}"] = {
            "id": f"{number:024x}",
            "dockerImage": "😀" * 90_000,
            "command": ["\x01" * 90_000],
            "labels": {"\x00" * 900: "😀" * 9_000},
            "environment": {"A": "\x00" * 900},
            "flavor": "cpu-basic",
            "status": {"stage": "\x01" * 9_000, "sshUrl": "ssh://x"},
        }

    seen, cursor = list[str](), None
    while not seen or cursor is not None:
        arguments: dict[str, Any] = {"cursor": cursor} if cursor else {}
        result, size = await read_reply(
            service_url, "list_jobs", outside=True, limit=100, **arguments
        )
        assert size <= MAX_REPLY_BYTES
        cursor = result["structuredContent"]["next_cursor"]
        seen += [job["hub_job_id"] for job in result["structuredContent"]["jobs"]]
    adopted, size = await read_reply(service_url, "adopt_job", hub_job_id=seen[0])

    assert seen == list(fake_hub.jobs)
    assert not adopted.get("isError")
    assert size <= DEFAULT_REPLY_BYTES


LONG: Final = "\x01" * 90_000
"""A text that takes six times as many bytes in JSON."""
REFUSED_CALLS: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("job_status", {LONG: 1}, "The arguments are job_ids."),
    ("job_status", {"job_ids": LONG}, "exactly as it was given to you."),
    ("job_status", {"job_ids": f"{' ' * 90_000}{UNKNOWN_JOB_ID}"}, "list_jobs shows yours."),
    ("list_jobs", {"kind": LONG}, "none of"),
    ("list_jobs", {"state": [LONG] * 3}, "queued"),
    ("launch_job", {"command": "true", "namespace": LONG, "flavor": LONG}, "namespace"),
    ("launch_job", {"command": "true", "labels": {f"{n}{LONG}": LONG for n in range(3)}}, "labels"),
    ("create_schedule", {"cron": LONG, "job": {"command": "true"}}, "cron"),
    (
        "create_schedule",
        {"cron": "@daily", "timezone": LONG, "job": {"command": "true"}},
        "timezone",
    ),
    ("create_schedule", {"cron": "@daily", "job": {LONG: 1}}, "The arguments are"),
    ("wait_for_jobs", {"job_ids": UNKNOWN_JOB_ID, "since_version": {LONG: 1}}, "is not one of"),
]


@pytest.mark.parametrize(("tool", "arguments", "advice"), REFUSED_CALLS)
async def test_a_refusal_repeats_little_of_what_was_sent(
    service_url: str, tool: str, arguments: dict[str, Any], advice: str
) -> None:
    """And what to do about it is never what is left out."""
    result, size = await read_reply(service_url, tool, **arguments)

    text, error = result["content"][0]["text"], result["_meta"]["holdfast/error"]
    assert result["isError"]
    assert size <= DEFAULT_REPLY_BYTES // 4
    assert advice in text
    assert text.startswith(error["message"])
    assert error["remedy"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": LONG}),
        ("prompts/get", {"name": LONG}),
        ("prompts/get", {"name": "diagnose_job", "arguments": {LONG: "x"}}),
        ("prompts/get", {"name": "compare_runs", "arguments": {"job_ids": LONG}}),
        ("resources/read", {"uri": f"job://{'x' * 90_000}"}),
        ("resources/read", {"uri": f"other://{'x' * 90_000}"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": LONG}}),
    ],
)
async def test_an_error_of_the_protocol_repeats_little_of_what_was_sent(
    service_url: str, method: str, params: dict[str, Any]
) -> None:
    """There is nothing to find by a name of 90,000 characters."""
    argument = {"argument": {"name": "job_id", "value": ""}} if "ref" in params else {}

    answer = await post_message(service_url, method, params | argument)

    assert answer.json()["error"]["message"]
    assert len(answer.content) <= DEFAULT_REPLY_BYTES // 4


LONG_LABELS: Final = {f"{n:02}{'a' * 98}": "b" * 100 for n in range(20)}
"""As many as the Hub takes, and as long."""
LONG_REQUESTS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("launch_job", {"image": "i", "command": ["echo", "\x01" * 60_000, *["é"] * 5_000, "end"]}),
    ("launch_job", {"command": "true", "env": {f"A{n}": "\x01" * 9_000 for n in range(10)}}),
    ("launch_job", {"script": f"print('{LONG}')\n", "labels": LONG_LABELS}),
    ("launch_inference", {"model": "m/m", "inputs": LONG}),
    ("launch_inference", {"model": "m/m", "inputs": "Hi", "parameters": {"stop": [LONG] * 3}}),
    ("launch_space_call", {"space": "ada/asleep", "arguments": {f"{n}": LONG for n in range(9)}}),
]


@pytest.mark.parametrize(("tool", "arguments"), LONG_REQUESTS)
async def test_a_dry_run_repeats_little_of_a_long_request(
    service_url: str, tool: str, arguments: dict[str, Any]
) -> None:
    """Every name of it, and it says that the values are cut; a request took 1.4 MB."""
    result, size = await read_reply(service_url, tool, **arguments, dry_run=True)
    short, _ = await read_reply(service_url, "launch_job", command="true", dry_run=True)

    view = result["structuredContent"]
    assert size <= DEFAULT_REPLY_BYTES // 2
    assert len(result["content"][1]["text"].encode()) <= DEFAULT_REPLY_BYTES // 6
    assert arguments.keys() - {"command", "labels"} <= view["spec"].keys()
    assert view["shortened"]
    assert "What it would be, shortened here: {" in result["content"][1]["text"]
    assert short["structuredContent"]["shortened"] is False
    assert "What it would be: {" in short["content"][1]["text"]


@pytest.mark.parametrize(("tool", "arguments"), LONG_REQUESTS)
async def test_a_schedule_of_a_long_request_is_shown_in_short(
    service_url: str, tool: str, arguments: dict[str, Any]
) -> None:
    """What each firing would launch is the same request."""
    name = {"launch_job": "job", "launch_inference": "inference", "launch_space_call": "space"}
    schedule = {"cron": "@daily", name[tool]: arguments}

    preview, preview_size = await read_reply(
        service_url, "create_schedule", **schedule, dry_run=True
    )
    created, created_size = await read_reply(service_url, "create_schedule", **schedule)

    assert max(preview_size, created_size) <= DEFAULT_REPLY_BYTES // 2
    assert preview["structuredContent"]["shortened"]
    assert "Each would be, shortened here: {" in preview["content"][1]["text"]
    assert created["structuredContent"]["schedule_id"] in created["content"][0]["text"]


async def test_hardware_that_does_not_fit_is_counted(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """And the sentence says how to ask for less."""
    machine = {"cpu": "8 vCPU", "ram": LONG[:5_000], "unitLabel": "minute"}
    fake_hub.hardware = [
        {"name": f"cpu-{number:03}", "unitCostMicroUSD": number, **machine} for number in range(400)
    ]

    with start_service() as url:
        result, size = await read_reply(url, "list_hardware")
        few, _ = await read_reply(url, "list_hardware", max_price=0.0003)

    view = result["structuredContent"]
    assert size <= DEFAULT_REPLY_BYTES
    assert len(view["flavors"]) + view["left_out"] == 400
    assert [flavor["name"] for flavor in view["flavors"][:2]] == ["cpu-000", "cpu-001"]
    assert (
        f"; {view['left_out']} dearer ones are left out: give gpu_only=true, or a max_price"
        in (result["content"][0]["text"])
    )
    assert (len(few["structuredContent"]["flavors"]), few["structuredContent"]["left_out"]) == (
        6,
        0,
    )
    assert "left out" not in few["content"][0]["text"]


async def test_organisations_that_do_not_fit_are_counted(
    start_service: StartService, fake_hub: FakeHub
) -> None:
    """The account's own name is always among those shown."""
    names = [f"org-{number:04}" for number in range(1000)]
    fake_hub.whoami_by_token["hf_ada"]["orgs"] = [
        {"name": name, "roleInOrg": "admin"} for name in names
    ]

    with start_service() as url:
        result, size = await read_reply(url, "whoami")

    view = result["structuredContent"]
    assert size <= DEFAULT_REPLY_BYTES
    assert view["namespaces"][:2] == ["ada", "org-0000"]
    assert len(view["namespaces"]) + view["more_namespaces"] == 1001
    assert (
        f"and {view['more_namespaces']} more of your organisations."
        in (result["content"][1]["text"])
    )


async def test_a_prompt_and_a_resource_about_hostile_jobs_fit(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """They go into a conversation whole, as replies of tools do."""
    run_driver, handles = RunDriver(database), list[str]()
    for number in range(3):
        spec = {"image": "i", "command": ["echo", LONG], "timeout": 60}
        handles.append(job_handle(await make_job(title="t" * 80, spec=spec)))
        run_id = await run_driver.start_run(remote_id=f"{number:024x}")
        await run_driver.append_log(run_id, *['"\u2028' * 9_000] * 30)
        ending = RunResult(JobState.FAILED, "ERROR", Reason.INTERNAL, f"{LONG}the end", 1)
        await run_driver.end_run(run_id, ending)
    job_ids = ",".join(handles)

    for method, params in (
        ("prompts/get", {"name": "diagnose_job", "arguments": {"job_id": handles[0]}}),
        ("prompts/get", {"name": "compare_runs", "arguments": {"job_ids": job_ids}}),
        ("resources/read", {"uri": f"job://{handles[0]}"}),
        ("resources/read", {"uri": f"job://{handles[0]}/logs"}),
    ):
        answer = await post_message(service_url, method, params)

        assert len(answer.content) <= DEFAULT_REPLY_BYTES, params
        assert handles[0] in answer.text

    result, size = await read_reply(service_url, "job_status", job_ids=handles[0])
    assert size <= DEFAULT_REPLY_BYTES
    assert result["structuredContent"]["jobs"][0]["message"].endswith("the end")
