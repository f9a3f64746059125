"""All that `hf_jobs` takes has its place here, or a reason: `docs/hf-jobs.md`, row by row."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from schema.accounts.vault import Secret
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from tests.support.factories import StartService
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool
from tests.support.paths import DOCS
from tests.support.subjects import ADA_ID
from workers.artifacts.redaction import Redactor

PAGE: Final = DOCS / "hf-jobs.md"
_TABLE_ROW: Final = re.compile(r"^\| (?P<theirs>.+?) \| (?P<ours>.+) \|$", re.MULTILINE)
TABLES: Final = ("operation", "argument", "known there")
HARDWARE: Final[dict[str, Any]] = {"unitCostMicroUSD": 83333, "unitLabel": "minute"}


@dataclass(frozen=True)
class ParityService:
    """A service, and who moves its jobs."""

    url: str
    run_driver: RunDriver

    async def read_request(self, **arguments: Any) -> dict[str, Any]:
        """Return the request that a launch would make."""
        rehearsal = await call_for_result(self.url, "launch_job", dry_run=True, **arguments)
        return {
            **rehearsal["spec"],
            "labels": rehearsal["labels"],
            "namespace": rehearsal["namespace"],
        }

    async def read_refusal(self, **arguments: Any) -> str:
        answer = await call_tool(self.url, "launch_job", **arguments)
        assert answer.is_error, arguments
        return answer_text(answer)

    async def launch_and_start(self) -> str:
        """Launch a job and see it run."""
        handle = (await call_for_result(self.url, "launch_job", command="true"))["job_id"]
        run_id = await self.run_driver.start_run(remote_id=f"remote of {handle}")
        await self.run_driver.append_log(run_id, *(f"line {number}" for number in range(5)))
        return str(handle)

    async def read_job(self, handle: str) -> dict[str, Any]:
        view: dict[str, Any] = (await call_for_result(self.url, "job_status", job_ids=[handle]))[
            "jobs"
        ][0]
        return view


ParityCase = Callable[[ParityService], Awaitable[None]]
CASES: Final[dict[tuple[str, str], ParityCase]] = {}


def parity_case(table: str, *rows: str) -> Callable[[ParityCase], ParityCase]:
    """Name the rows of a table that a case is about."""

    def add(function: ParityCase) -> ParityCase:
        CASES.update({(table, row): function for row in rows})
        return function

    return add


def read_rows() -> list[tuple[str, str]]:
    """Read the tables; a row is called what is in its first cell."""
    _, _, section = PAGE.read_text().partition("## Coming from hf_jobs")
    rows: list[tuple[str, str]] = []
    table = ""
    for row in _TABLE_ROW.finditer(section):
        name = row["theirs"].replace("`", "")
        if row["ours"] == "here":
            table = name
        else:
            rows.append((table, name))
    return rows


@parity_case("operation", "run")
async def run(parity: ParityService) -> None:
    spec = await parity.read_request(image="python:3.12", command=["python", "-c", "print(1)"])
    assert spec["command"] == ["python", "-c", "print(1)"]


@parity_case("operation", "uv")
async def uv(parity: ParityService) -> None:
    assert (await parity.read_request(script="import torch\nprint(1)"))["script"].startswith(
        "import torch"
    )


@parity_case("operation", "ps", "logs", "inspect", "cancel")
async def see_logs_and_status(parity: ParityService) -> None:
    handle = await parity.launch_and_start()
    listed = await call_for_result(parity.url, "list_jobs")
    log = await call_for_result(parity.url, "job_logs", job_id=handle)
    cancelled = await call_for_result(parity.url, "cancel_job", job_id=handle)
    assert handle in {job["job_id"] for job in listed["jobs"]}
    assert [line["text"] for line in log["lines"]] == [f"line {number}" for number in range(5)]
    assert (await parity.read_job(handle))["job_id"] == cancelled["job_id"] == handle


@parity_case("operation", "update-labels")
async def relabel(parity: ParityService) -> None:
    assert (await parity.read_request(command="true", labels={"team": "nlp"}))["labels"] == {
        "team": "nlp"
    }


@parity_case("operation", "scheduled run, scheduled uv", "scheduled ps, scheduled inspect")
@parity_case("operation", "scheduled suspend, scheduled resume", "scheduled delete")
@parity_case("operation", "scheduled update-labels")
@parity_case("argument", "schedule", "suspend", "scheduled_job_id")
async def scheduled(parity: ParityService) -> None:
    job = {"script": "print(1)", "secrets": {"HF_TOKEN": "$HF_TOKEN"}, "labels": {"team": "nlp"}}
    made = await call_for_result(parity.url, "create_schedule", cron="@daily", job=job)
    listed = await call_for_result(parity.url, "list_schedules")
    [one] = [each for each in listed["schedules"] if each["schedule_id"] == made["schedule_id"]]
    assert (made["title"], made["labels"], one["paused"]) == (
        "uv run script.py",
        {"team": "nlp"},
        False,
    )
    for paused in (True, False):
        changed = await call_for_result(
            parity.url, "update_schedule", schedule_id=one["schedule_id"], paused=paused
        )
        assert changed["paused"] is paused
    await call_for_result(parity.url, "delete_schedule", schedule_id=one["schedule_id"])
    assert (await call_for_result(parity.url, "list_schedules"))["schedules"] == []


@parity_case("operation", "help")
async def explain(parity: ParityService) -> None:
    assert "give command, and its image, or script" in await parity.read_refusal()


@parity_case("argument", "image")
async def image(parity: ParityService) -> None:
    assert (await parity.read_request(command="true"))["image"] == "python:3.12"
    for prefix in ("https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"):
        spec = await parity.read_request(image=f"{prefix}spaces/ada/app", command="true")
        assert spec["image"] == "hf.co/spaces/ada/app"


@parity_case("argument", "command")
async def command(parity: ParityService) -> None:
    one_line = await parity.read_request(command="python -c 'print(1, 2)'")
    assert one_line["command"] == ["python", "-c", "print(1, 2)"]
    assert '["sh", "-c", "a && b"]' in await parity.read_refusal(command="a && b")


@parity_case("argument", "script")
async def script(parity: ParityService) -> None:
    url = "https://example.com/train.py"
    assert (await parity.read_request(script=url))["script"] == url
    assert "your files cannot be read here" in await parity.read_refusal(script="/work/train.py")


@parity_case("argument", "with_deps", "script_args", "python")
async def launch_with_script(parity: ParityService) -> None:
    script_arguments = {
        "dependencies": ["trl", "torch>=2"],
        "script_args": ["--x", "1"],
        "python": "3.12",
    }
    spec = await parity.read_request(script="print(1)", **script_arguments)
    assert {name: spec[name] for name in script_arguments} == script_arguments


@parity_case("argument", "flavor")
@parity_case("known there", "h200 and rtx-pro-6000 are unknown")
async def flavor(parity: ParityService) -> None:
    for name in ("cpu-upgrade", "h200x8", "rtx-pro-6000x2"):
        assert (await parity.read_request(command="true", flavor=name))["flavor"] == name
    listed = await call_for_result(parity.url, "list_hardware")
    assert {"h200x8", "rtx-pro-6000x2"} <= {flavor["name"] for flavor in listed["flavors"]}


@parity_case("argument", "env")
async def env(parity: ParityService) -> None:
    assert (await parity.read_request(command="true", env={"N1": "1"}))["env"] == {"N1": "1"}
    refusal = await parity.read_refusal(command="true", env={"MY_TOKEN": "$HF_TOKEN"})
    assert 'secrets={"MY_TOKEN": "$HF_TOKEN"}' in refusal


@parity_case("argument", "secrets")
async def secrets(parity: ParityService) -> None:
    secret_values = {"WANDB": "sesame", "HF_TOKEN": "$HF_TOKEN", "MINE": "${HF_TOKEN}"}
    spec = await parity.read_request(command="true", secrets=secret_values)
    assert (spec["secrets"], spec["pass_token"], spec["token_as"]) == (["WANDB"], True, ["MINE"])


@parity_case("argument", "timeout")
@parity_case("known there", "1h30m is one second", "0s and -5 are passed on")
async def timeout(parity: ParityService) -> None:
    written = {
        "5m": 300,
        "2h": 7200,
        "30s": 30,
        "1h30m": 5400,
        "1.5h": 5400,
        "300": 300,
        "1d": 86400,
    }
    for each, seconds in written.items():
        assert (await parity.read_request(command="true", timeout=each))["timeout"] == seconds
    assert (await parity.read_request(command="true"))["timeout"] == 1800
    for wrong in ("0s", "-5", "soon"):
        assert "from 1s to 30d is allowed" in await parity.read_refusal(
            command="true", timeout=wrong
        )


@parity_case("argument", "volumes")
async def volumes(parity: ParityService) -> None:
    mounts = ["hf://datasets/org/ds:/data:ro", "hf://buckets/org/b:/output"]
    spec = await parity.read_request(command="true", volumes=mounts)
    assert spec["volumes"] == [mounts[0], f"{mounts[1]}:rw"]


@parity_case("argument", "namespace", "labels", "name", "resource_group_id")
async def place_in_datacenter(parity: ParityService) -> None:
    group = "66b2" * 6
    spec = await parity.read_request(
        command="true", namespace="acme", labels={"name": "nightly"}, resource_group_id=group
    )
    named = await call_for_result(parity.url, "launch_job", command="true", name="nightly run")
    assert (spec["namespace"], spec["resource_group_id"]) == ("acme", group)
    assert spec["labels"] == {"name": "nightly"}
    assert (await parity.read_job(named["job_id"]))["title"] == "nightly run"
    await call_for_result(parity.url, "cancel_job", job_id=named["job_id"])


@parity_case("argument", "detach")
async def detach(parity: ParityService) -> None:
    assert "There is no argument detach" in await parity.read_refusal(command="true", detach=True)


@parity_case("argument", "all", "status", "job_id", "tail")
async def choose_by_kind(parity: ParityService) -> None:
    handles = [await parity.launch_and_start() for _ in range(2)]
    await call_for_result(parity.url, "cancel_job", job_id=handles[0])
    everything = await call_for_result(parity.url, "list_jobs")
    running = await call_for_result(parity.url, "list_jobs", state="RUNNING")
    both = await call_for_result(parity.url, "job_status", job_ids=[*handles, "job_nonsense"])
    last = await call_for_result(parity.url, "job_logs", job_id=handles[0], tail=2)
    assert set(handles) <= {job["job_id"] for job in everything["jobs"]}
    assert handles[0] not in {job["job_id"] for job in running["jobs"]}
    assert ([job["job_id"] for job in both["jobs"]], len(both["errors"])) == (handles, 1)
    assert [line["text"] for line in last["lines"]] == ["line 3", "line 4"]


@parity_case("known there", "a script of one line is a path")
async def one_line(parity: ParityService) -> None:
    for line in ("print('hello')", "import this", "x = 1; print(x)"):
        assert (await parity.read_request(script=line))["script"] == line


@parity_case("known there", 'env of "1" blanks every 1 in the log')
async def plain_words(parity: ParityService) -> None:
    await parity.read_request(command="true", env={"DEBUG": "1"}, secrets={"MODE": "1"})
    redactor = Redactor({"MODE": Secret("1")})
    assert redactor.redact("step 1 of 10: 1 GPU") == "step 1 of 10: 1 GPU"


@parity_case("known there", "jobs in SCHEDULING are left out of ps")
async def scheduling(parity: ParityService) -> None:
    handle = await parity.launch_and_start()
    async with parity.run_driver.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET stage = 'SCHEDULING' WHERE state = 'bound'")
    listed = await call_for_result(parity.url, "list_jobs", state="running")
    assert handle in {job["job_id"] for job in listed["jobs"]}
    assert (await parity.read_job(handle))["stage"] == "SCHEDULING"


@parity_case("known there", "cancel claims success unseen")
async def unseen(parity: ParityService) -> None:
    handle = (await call_for_result(parity.url, "launch_job", command="true"))["job_id"]
    run_id = await parity.run_driver.start_run(remote_id=f"remote of {handle}")
    answer = await call_tool(parity.url, "cancel_job", job_id=handle)
    assert "is being stopped, and may still cost money" in answer_text(answer)
    assert (await parity.read_job(handle))["upstream"] == "stopping"
    await parity.run_driver.end_run(run_id, RunResult(JobState.CANCELLED, "CANCELED"))
    assert (await parity.read_job(handle))["upstream"] == "stopped"


def test_each_row_has_a_case_and_each_case_a_row() -> None:
    """A page that promises what nobody tries is an advertisement."""
    assert sorted(read_rows()) == sorted(CASES)
    assert {table for table, _ in CASES} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
async def test_each_row_holds(
    start_service: StartService, fake_hub: FakeHub, database: Database, table: str
) -> None:
    """What a model has learned of another server is no mistake here."""
    fake_hub.whoami_by_token["hf_ada"] = whoami_answer(
        ADA_ID, "ada", type="access_token", accessToken={"role": "write"}
    ) | {"orgs": [{"type": "org", "id": "0" * 24, "name": "acme", "roleInOrg": "admin"}]}
    fake_hub.hardware += [{"name": name, **HARDWARE} for name in ("h200x8", "rtx-pro-6000x2")]
    with start_service() as service:
        for each in dict.fromkeys(each for (of, _), each in CASES.items() if of == table):
            await each(ParityService(service, RunDriver(database)))


@pytest.mark.parametrize("argument", ["command", "script"])
async def test_a_command_line_in_an_argument_launches_nothing(
    service_url: str, argument: str
) -> None:
    """Its refusal has the call that was meant, and what a model copies from it is taken."""
    line = "hf jobs run --flavor l4x1 -s KEY=sesame python:3.12 python -V"

    answer = await call_tool(service_url, "launch_job", **{argument: line})
    text = answer_text(answer)
    form = json.JSONDecoder().raw_decode(text.split("call launch_job with ")[1])[0]
    view = await call_for_result(service_url, "launch_job", dry_run=True, **form)

    assert answer.is_error
    assert "sesame" not in answer.model_dump_json()
    assert (view["spec"]["flavor"], view["spec"]["secrets"]) == ("l4x1", ["KEY"])
    assert (await call_for_result(service_url, "list_jobs"))["jobs"] == []


async def test_a_script_that_carries_its_launch_is_launched_like_that(service_url: str) -> None:
    """What `hf jobs uv run` reads in its header is not passed over; the call wins."""
    header = '# /// script\n# [tool.hf-jobs]\n# flavor = "l4x1"\n# timeout = "2h"\n# ///\n'

    view = await call_for_result(
        service_url,
        "launch_job",
        script=f"{header}print(1)",
        timeout="5m",
        secrets=[{"name": "WANDB_API_KEY", "value": "k"}],
        dry_run=True,
    )

    assert (view["spec"]["flavor"], view["spec"]["timeout"]) == ("l4x1", 300)
    assert view["spec"]["secrets"] == ["WANDB_API_KEY"]
    assert "From the script's [tool.hf-jobs]: flavor l4x1." in view["notes"]
