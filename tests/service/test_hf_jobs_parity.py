"""All that `hf_jobs` takes has its place here, or a reason: `docs/hf-jobs.md`, row by row."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from schema.accounts.vault import Secret
from schema.db.database import Database
from schema.jobs.run_end import Ending
from schema.jobs.tables import JobState
from tests.service.conftest import Start
from tests.service.lives import Worker
from tests.service.stand_in import Whoami, call, person, shown, text
from workers.artifacts.redaction import Redactor

PAGE: Final = Path(__file__).parents[2] / "docs" / "hf-jobs.md"
_ROW: Final = re.compile(r"^\| (?P<theirs>.+?) \| (?P<ours>.+) \|$", re.MULTILINE)
TABLES: Final = ("operation", "argument", "known there")
HARDWARE: Final[dict[str, Any]] = {"unitCostMicroUSD": 83333, "unitLabel": "minute"}


@dataclass(frozen=True)
class Ground:
    """A service, and who moves its jobs."""

    service: str
    worker: Worker

    async def asked(self, **arguments: Any) -> dict[str, Any]:
        """Return the request that a launch would make."""
        found = await shown(self.service, "launch_job", dry_run=True, **arguments)
        return {**found["spec"], "labels": found["labels"], "namespace": found["namespace"]}

    async def refused(self, **arguments: Any) -> str:
        answer = await call(self.service, "launch_job", **arguments)
        assert answer.is_error, arguments
        return text(answer)

    async def running(self) -> str:
        """Launch a job and see it run."""
        handle = (await shown(self.service, "launch_job", command="true"))["job_id"]
        run_id = await self.worker.bind(remote=f"remote of {handle}")
        await self.worker.log(run_id, *(f"line {number}" for number in range(5)))
        return str(handle)

    async def status(self, handle: str) -> dict[str, Any]:
        view: dict[str, Any] = (await shown(self.service, "job_status", job_ids=[handle]))["jobs"][
            0
        ]
        return view


Case = Callable[[Ground], Awaitable[None]]
CASES: Final[dict[tuple[str, str], Case]] = {}


def case(table: str, *rows: str) -> Callable[[Case], Case]:
    """Name the rows of a table that a case is about."""

    def add(function: Case) -> Case:
        CASES.update({(table, row): function for row in rows})
        return function

    return add


def rows() -> list[tuple[str, str]]:
    """Read the tables; a row is called what is in its first cell."""
    _, _, section = PAGE.read_text().partition("## Coming from hf_jobs")
    found: list[tuple[str, str]] = []
    table = ""
    for row in _ROW.finditer(section):
        name = row["theirs"].replace("`", "")
        if row["ours"] == "here":
            table = name
        else:
            found.append((table, name))
    return found


@case("operation", "run")
async def run(ground: Ground) -> None:
    spec = await ground.asked(image="python:3.12", command=["python", "-c", "print(1)"])
    assert spec["command"] == ["python", "-c", "print(1)"]


@case("operation", "uv")
async def uv(ground: Ground) -> None:
    assert (await ground.asked(script="import torch\nprint(1)"))["script"].startswith(
        "import torch"
    )


@case("operation", "ps", "logs", "inspect", "cancel")
async def look(ground: Ground) -> None:
    handle = await ground.running()
    listed = await shown(ground.service, "list_jobs")
    log = await shown(ground.service, "job_logs", job_id=handle)
    cancelled = await shown(ground.service, "cancel_job", job_id=handle)
    assert handle in {job["job_id"] for job in listed["jobs"]}
    assert [line["text"] for line in log["lines"]] == [f"line {number}" for number in range(5)]
    assert (await ground.status(handle))["job_id"] == cancelled["job_id"] == handle


@case("operation", "update-labels")
async def relabel(ground: Ground) -> None:
    assert (await ground.asked(command="true", labels={"team": "nlp"}))["labels"] == {"team": "nlp"}


@case("operation", "scheduled run, scheduled uv", "scheduled ps, scheduled inspect")
@case("operation", "scheduled suspend, scheduled resume", "scheduled delete")
@case("operation", "scheduled update-labels")
@case("argument", "schedule", "suspend", "scheduled_job_id")
async def scheduled(ground: Ground) -> None:
    job = {"script": "print(1)", "secrets": {"HF_TOKEN": "$HF_TOKEN"}, "labels": {"team": "nlp"}}
    made = await shown(ground.service, "create_schedule", cron="@daily", job=job)
    listed = await shown(ground.service, "list_schedules")
    [one] = [each for each in listed["schedules"] if each["schedule_id"] == made["schedule_id"]]
    assert (made["title"], made["labels"], one["paused"]) == (
        "uv run script.py",
        {"team": "nlp"},
        False,
    )
    for paused in (True, False):
        changed = await shown(
            ground.service, "update_schedule", schedule_id=one["schedule_id"], paused=paused
        )
        assert changed["paused"] is paused
    await shown(ground.service, "delete_schedule", schedule_id=one["schedule_id"])
    assert (await shown(ground.service, "list_schedules"))["schedules"] == []


@case("operation", "help")
async def explain(ground: Ground) -> None:
    assert "A correct call: launch_job {" in await ground.refused()


@case("argument", "image")
async def image(ground: Ground) -> None:
    assert (await ground.asked(command="true"))["image"] == "python:3.12"
    for prefix in ("https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"):
        spec = await ground.asked(image=f"{prefix}spaces/ada/app", command="true")
        assert spec["image"] == "hf.co/spaces/ada/app"


@case("argument", "command")
async def command(ground: Ground) -> None:
    one_line = await ground.asked(command="python -c 'print(1, 2)'")
    assert one_line["command"] == ["python", "-c", "print(1, 2)"]
    assert '["sh", "-c", "a && b"]' in await ground.refused(command="a && b")


@case("argument", "script")
async def script(ground: Ground) -> None:
    url = "https://example.com/train.py"
    assert (await ground.asked(script=url))["script"] == url
    assert "no file of yours is in reach" in await ground.refused(script="/work/train.py")


@case("argument", "with_deps", "script_args", "python")
async def beside_a_script(ground: Ground) -> None:
    given = {"dependencies": ["trl", "torch>=2"], "script_args": ["--x", "1"], "python": "3.12"}
    spec = await ground.asked(script="print(1)", **given)
    assert {name: spec[name] for name in given} == given


@case("argument", "flavor")
@case("known there", "h200 and rtx-pro-6000 are unknown")
async def flavor(ground: Ground) -> None:
    for name in ("cpu-upgrade", "h200x8", "rtx-pro-6000x2"):
        assert (await ground.asked(command="true", flavor=name))["flavor"] == name
    listed = await shown(ground.service, "list_hardware")
    assert {"h200x8", "rtx-pro-6000x2"} <= {flavor["name"] for flavor in listed["flavors"]}


@case("argument", "env")
async def env(ground: Ground) -> None:
    assert (await ground.asked(command="true", env={"N1": "1"}))["env"] == {"N1": "1"}
    refusal = await ground.refused(command="true", env={"MY_TOKEN": "$HF_TOKEN"})
    assert 'secrets={"MY_TOKEN": "$HF_TOKEN"}' in refusal


@case("argument", "secrets")
async def secrets(ground: Ground) -> None:
    given = {"WANDB": "sesame", "HF_TOKEN": "$HF_TOKEN", "MINE": "${HF_TOKEN}"}
    spec = await ground.asked(command="true", secrets=given)
    assert (spec["secrets"], spec["pass_token"], spec["token_as"]) == (["WANDB"], True, ["MINE"])


@case("argument", "timeout")
@case("known there", "1h30m is one second", "0s and -5 are passed on")
async def timeout(ground: Ground) -> None:
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
        assert (await ground.asked(command="true", timeout=each))["timeout"] == seconds
    assert (await ground.asked(command="true"))["timeout"] == 1800
    for wrong in ("0s", "-5", "soon"):
        assert "anything from 1s to 30d goes" in await ground.refused(command="true", timeout=wrong)


@case("argument", "volumes")
async def volumes(ground: Ground) -> None:
    given = ["hf://datasets/org/ds:/data:ro", "hf://buckets/org/b:/output"]
    spec = await ground.asked(command="true", volumes=given)
    assert spec["volumes"] == [given[0], f"{given[1]}:rw"]


@case("argument", "namespace", "labels", "name", "resource_group_id")
async def placed(ground: Ground) -> None:
    group = "66b2" * 6
    spec = await ground.asked(
        command="true", namespace="acme", labels={"name": "nightly"}, resource_group_id=group
    )
    named = await shown(ground.service, "launch_job", command="true", name="nightly run")
    assert (spec["namespace"], spec["resource_group_id"]) == ("acme", group)
    assert spec["labels"] == {"name": "nightly"}
    assert (await ground.status(named["job_id"]))["title"] == "nightly run"
    await shown(ground.service, "cancel_job", job_id=named["job_id"])


@case("argument", "detach")
async def detach(ground: Ground) -> None:
    assert "There is no argument detach" in await ground.refused(command="true", detach=True)


@case("argument", "all", "status", "job_id", "tail")
async def chosen(ground: Ground) -> None:
    handles = [await ground.running() for _ in range(2)]
    await shown(ground.service, "cancel_job", job_id=handles[0])
    everything = await shown(ground.service, "list_jobs")
    running = await shown(ground.service, "list_jobs", state="RUNNING")
    both = await shown(ground.service, "job_status", job_ids=[*handles, "job_nonsense"])
    last = await shown(ground.service, "job_logs", job_id=handles[0], tail=2)
    assert set(handles) <= {job["job_id"] for job in everything["jobs"]}
    assert handles[0] not in {job["job_id"] for job in running["jobs"]}
    assert ([job["job_id"] for job in both["jobs"]], len(both["errors"])) == (handles, 1)
    assert [line["text"] for line in last["lines"]] == ["line 3", "line 4"]


@case("known there", "a script of one line is a path")
async def one_line(ground: Ground) -> None:
    for line in ("print('hello')", "import this", "x = 1; print(x)"):
        assert (await ground.asked(script=line))["script"] == line


@case("known there", 'env of "1" blanks every 1 in the log')
async def plain_words(ground: Ground) -> None:
    await ground.asked(command="true", env={"DEBUG": "1"}, secrets={"MODE": "1"})
    redactor = Redactor({"MODE": Secret("1")})
    assert redactor.text("step 1 of 10: 1 GPU") == "step 1 of 10: 1 GPU"


@case("known there", "jobs in SCHEDULING are left out of ps")
async def scheduling(ground: Ground) -> None:
    handle = await ground.running()
    async with ground.worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET stage = 'SCHEDULING' WHERE state = 'bound'")
    listed = await shown(ground.service, "list_jobs", state="running")
    assert handle in {job["job_id"] for job in listed["jobs"]}
    assert (await ground.status(handle))["stage"] == "SCHEDULING"


@case("known there", "cancel claims success unseen")
async def unseen(ground: Ground) -> None:
    handle = (await shown(ground.service, "launch_job", command="true"))["job_id"]
    run_id = await ground.worker.bind(remote=f"remote of {handle}")
    answer = await call(ground.service, "cancel_job", job_id=handle)
    assert "is being stopped, and may still cost money" in text(answer)
    assert (await ground.status(handle))["upstream"] == "stopping"
    await ground.worker.end(run_id, Ending(JobState.CANCELLED, "CANCELED"))
    assert (await ground.status(handle))["upstream"] == "stopped"


def test_each_row_has_a_case_and_each_case_a_row() -> None:
    """A page that promises what nobody tries is an advertisement."""
    assert sorted(rows()) == sorted(CASES)
    assert {table for table, _ in CASES} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
async def test_each_row_holds(start: Start, hub: Whoami, database: Database, table: str) -> None:
    """What a model has learned of another server is no mistake here."""
    hub.answers["hf_ada"] = person(
        "5e9ecfc04957053f60648a3e", "ada", type="access_token", accessToken={"role": "write"}
    ) | {"orgs": [{"type": "org", "id": "0" * 24, "name": "acme", "roleInOrg": "admin"}]}
    hub.hardware += [{"name": name, **HARDWARE} for name in ("h200x8", "rtx-pro-6000x2")]
    with start() as service:
        for each in dict.fromkeys(each for (of, _), each in CASES.items() if of == table):
            await each(Ground(service, Worker(database)))
