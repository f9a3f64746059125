"""Jobs that were started at the Hub by hand, with its own client: they are listed, and adopted."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from huggingface_hub import JobInfo

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.hub.labels import JOB_LABEL, RUN_LABEL, RUN_VARIABLE
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind
from service.local.hub_emulator.users import LocalTokenKind, find_user
from tests.support.database.all_rows import read_all_rows
from tests.support.factories import StartService
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal

FORGED_IDS: Final = (
    "../../whoami-v2",
    "6a31d7ef5ff0a6cf94f9f8b9/cancel",
    "6a31d7ef5ff0a6cf94f9f8b9?x=1",
    "6a31d7ef5ff0a6cf94f9f8b9#",
    "%2e%2e/%2e%2e/whoami-v2",
    "http://169.254.169.254/latest/meta-data",
    "https://huggingface.co/jobs/alice/6a31d7ef5ff0a6cf94f9f8b9",
    "file:///etc/passwd",
    "6a31d7ef5ff0a6cf94f9f8b",
    "",
)
UNKNOWN_ID: Final = "6a31d7ef5ff0a6cf94f9f8b9"


class Person:
    """A user of the emulated Hub, who calls the service as well."""

    def __init__(self, hub: HubEmulatorProcess, url: str, name: str) -> None:
        self.hub, self.url = hub, url
        self.user = find_user(hub.users, name)
        self.api = hub.api(name)

    def start(self, *command: str, **options: Any) -> JobInfo:
        """Start a job by hand, as somebody without Holdfast does."""
        return self.api.run_job(
            image="python:3.12", command=list(command), namespace=self.user.name, **options
        )

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await call_for_result(self.url, tool, caller_token=self.user.token, **arguments)

    async def refused(self, tool: str, **arguments: Any) -> dict[str, str]:
        return read_refusal(
            await call_tool(self.url, tool, caller_token=self.user.token, **arguments)
        )

    async def text(self, tool: str, **arguments: Any) -> str:
        answer = await call_tool(self.url, tool, caller_token=self.user.token, **arguments)
        return answer_text(answer)

    async def outside_ids(self) -> list[str]:
        """Read all pages of what has no handle."""
        seen, cursor = list[str](), None
        while True:
            page = await self.call(
                "list_jobs", outside=True, limit=8, **({"cursor": cursor} if cursor else {})
            )
            seen += [job["hub_job_id"] for job in page["jobs"]]
            if (cursor := page["next_cursor"]) is None:
                return seen


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """An emulated Hub for all tests of this module."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub_service_url(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> Generator[str]:
    """The URL of a service that asks the emulated Hub; no worker runs."""
    with start_service(hub_url=hub_emulator.url) as url:
        yield url


@pytest.fixture
def alice(hub_emulator: HubEmulatorProcess, hub_service_url: str) -> Person:
    return Person(hub_emulator, hub_service_url, "alice")


@pytest.fixture
def bob(hub_emulator: HubEmulatorProcess, hub_service_url: str) -> Person:
    return Person(hub_emulator, hub_service_url, "bob")


async def count_rows(database: Database, subject_id: str) -> tuple[int, int, int]:
    """Count the jobs, the open runs and what the subject's row counts."""
    async with database.transaction() as tx:
        jobs = await tx.fetchval("SELECT count(*) FROM job WHERE subject_id = $1", subject_id)
        runs = await tx.fetchval(
            "SELECT count(*) FROM remote_run WHERE subject_id = $1 AND state = 'bound'", subject_id
        )
        active = await tx.fetchval("SELECT active FROM subject WHERE id = $1", subject_id)
    return jobs, runs, active


async def claim_job(database: Database) -> ClaimedJob:
    """Claim the one queued job, as a worker does before it sends the create request."""
    long = timedelta(minutes=5)
    async with database.transaction() as tx:
        [claim] = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=long, settle_window=long
        )
    return claim


async def test_a_job_started_by_hand_is_listed_and_gets_a_handle_like_any_other(
    alice: Person, database: Database
) -> None:
    """The list names the call that adopts it; the answer says what no budget was asked about."""
    job = alice.start("sleep", "60", flavor="t4-small", timeout="10m", labels={"team": "nlp"})

    listed = await alice.text("list_jobs", outside=True)
    before = await alice.outside_ids()
    adopted = await alice.call("adopt_job", hub_job_id=job.id)
    [view] = (await alice.call("job_status", job_ids=adopted["job_id"]))["jobs"]

    assert f'Call adopt_job(hub_job_id="{job.id}", namespace="alice").' in listed
    assert job.id in before
    assert job.id not in await alice.outside_ids()
    assert (view["state"], view["upstream"], view["flavor"]) == ("running", "live", "t4-small")
    assert (view["labels"]["team"], view["timeout"]) == ("nlp", "10m")
    assert view["url"].endswith(f"/jobs/alice/{job.id}")
    assert "no budget was checked before" in view["summary"]
    assert view["cost"]["ceiling_usd"] == pytest.approx(0.06667)
    assert [entry["job_id"] for entry in (await alice.call("list_jobs"))["jobs"]] == [
        adopted["job_id"]
    ]
    assert await count_rows(database, alice.user.id) == (1, 1, 1)
    alice.api.cancel_job(job_id=job.id, namespace="alice")


async def test_adopting_twice_and_at_once_gives_one_handle(
    alice: Person, database: Database
) -> None:
    """A model repeats a call, and two clients of one person make it together."""
    job = alice.start("true")

    views = await asyncio.gather(*(alice.call("adopt_job", hub_job_id=job.id) for _ in range(4)))
    again = await alice.text("adopt_job", hub_job_id=job.id.upper())

    assert {view["job_id"] for view in views} == {views[0]["job_id"]}
    assert f"It has the handle {views[0]['job_id']} already." in again
    assert await count_rows(database, alice.user.id) == (1, 1, 1)


async def test_anothers_job_is_not_told_from_none(
    alice: Person, bob: Person, database: Database
) -> None:
    """What Bob's token does not show does not exist, whether it has a handle or not."""
    job = alice.start("true")
    await alice.call("adopt_job", hub_job_id=job.id)
    await bob.call("list_jobs")
    before = await read_all_rows(database)

    for namespace in ({}, {"namespace": "alice"}):
        theirs, none = [
            await bob.refused("adopt_job", hub_job_id=each, **namespace)
            for each in (job.id, UNKNOWN_ID)
        ]
        assert {name: text.replace(job.id, UNKNOWN_ID) for name, text in theirs.items()} == none
        assert none["code"] == ("NamespaceDenied" if namespace else "NotFound")

    assert await read_all_rows(database) == before
    assert await bob.outside_ids() == []


@pytest.mark.parametrize("forged", FORGED_IDS)
async def test_an_id_that_is_none_never_reaches_the_hub(
    alice: Person, database: Database, forged: str
) -> None:
    """A path or a URL in it would be requested with the caller's token."""
    await alice.call("list_jobs")
    before = await read_all_rows(database)

    refusal = await alice.refused("adopt_job", hub_job_id=forged)

    assert refusal["code"] == "Invalid"
    assert await read_all_rows(database) == before


@pytest.mark.parametrize("cursor", ["x", "http://169.254.169.254/", f"{UNKNOWN_ID}", "job_1.x"])
async def test_a_cursor_of_another_list_is_refused(alice: Person, cursor: str) -> None:
    """It is no place of this list, and nothing of it is a URL."""
    refusal = await alice.refused("list_jobs", outside=True, cursor=cursor)

    assert refusal["code"] == "Invalid"


@pytest.mark.parametrize("state", ["posting", "unknown"])
async def test_what_we_are_launching_has_its_own_handle_already(
    alice: Person, database: Database, state: str
) -> None:
    """The answer to our create request is not here yet; a second handle would be a second cost."""
    launched = await alice.call("launch_job", image="python:3.12", command="true")
    claim = await claim_job(database)
    if state == "unknown":
        async with database.transaction() as tx:
            await run_launch.mark_unconfirmed(tx, claim.run_id, cause="timeout", worker="w")
    labels = {JOB_LABEL: launched["job_id"], RUN_LABEL: str(claim.run_id)}
    job = alice.start("true", labels=labels, env={RUN_VARIABLE: str(claim.run_id)})

    outside = await alice.outside_ids()
    adopted = await alice.call("adopt_job", hub_job_id=job.id)

    assert adopted["job_id"] == launched["job_id"]
    assert job.id not in outside
    jobs, bound, active = await count_rows(database, alice.user.id)
    assert (jobs, bound, active) == (1, 0, 1)


async def test_a_copy_of_our_job_is_a_job_of_its_own(alice: Person, database: Database) -> None:
    """A person who repeats it at the Hub copies our labels with it."""
    launched = await alice.call("launch_job", image="python:3.12", command="true")
    claim = await claim_job(database)
    first = alice.start(
        "true",
        labels={RUN_LABEL: str(claim.run_id)},
        env={RUN_VARIABLE: str(claim.run_id)},
    )
    with alice.hub.open_client() as client:
        copy_id = client.post(f"/api/jobs/alice/{first.id}/duplicate").json()["id"]

    adopted = await alice.call("adopt_job", hub_job_id=copy_id)

    assert adopted["job_id"] != launched["job_id"]


async def test_open_jobs_are_limited_with_those_that_are_adopted(
    start_service: StartService, hub_emulator: HubEmulatorProcess, database: Database
) -> None:
    """Each is watched until it is over."""
    with start_service(hub_url=hub_emulator.url, open_jobs=1) as url:
        alice = Person(hub_emulator, url, "alice")
        first, second = alice.start("true"), alice.start("true")
        await alice.call("adopt_job", hub_job_id=first.id)

        refusal = await alice.refused("adopt_job", hub_job_id=second.id)

        assert refusal["code"] == "LimitReached"
        assert await count_rows(database, alice.user.id) == (1, 1, 1)


async def test_its_cost_is_held_in_the_month_of_its_creation(
    alice: Person, database: Database
) -> None:
    """No budget can refuse what is being spent; what is launched next has that much less room."""
    job = alice.start("sleep", "60", flavor="t4-small", timeout="10m")
    assert job.created_at is not None

    await alice.call("adopt_job", hub_job_id=job.id)

    async with database.transaction() as tx:
        cost = await tx.fetchrow("SELECT * FROM job_cost")
        held = await tx.fetchval(
            "SELECT held_micro_usd FROM spending WHERE subject_id = $1 AND month = $2",
            alice.user.id,
            job.created_at.date().replace(day=1),
        )
    assert cost is not None
    assert cost["month"] == job.created_at.date().replace(day=1)
    assert held == cost["held_micro_usd"] == cost["ceiling_micro_usd"] == 66_670
    alice.api.cancel_job(job_id=job.id, namespace="alice")


@pytest.mark.parametrize(
    ("secrets", "withheld"), [({"HF_TOKEN": "hf_x"}, 0), ({"API_KEY": "sesame"}, 1)]
)
async def test_the_log_of_a_job_with_secrets_that_are_not_known_here_is_withheld(
    alice: Person, database: Database, secrets: dict[str, str], withheld: int
) -> None:
    """Nobody could look for them in it; tokens of the Hub are recognised by their form."""
    job = alice.start("true", secrets=secrets)

    text = await alice.text("adopt_job", hub_job_id=job.id)

    assert ("its log is withheld here" in text) == bool(withheld)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job_secret") == withheld


async def test_pages_of_the_hub_are_read_on_where_a_page_of_ours_ended(alice: Person) -> None:
    """The Hub has 20 on a page, we show 8: each job is seen once, the newest first."""
    started = [alice.start("true").id for _ in range(23)]

    seen = await alice.outside_ids()

    assert [job_id for job_id in seen if job_id in set(started)] == started[::-1]
    assert len(seen) == len(set(seen))


async def test_while_the_hub_is_away_nothing_is_adopted_and_the_answer_says_so(
    start_service: StartService, tmp_path: Path
) -> None:
    """It may be there in a moment; the job is not called unknown."""
    with run_hub_emulator(tmp_path) as hub, start_service(hub_url=hub.url) as url:
        alice = Person(hub, url, "alice")
        job = alice.start("true")
        await alice.call("list_jobs")  # who she is, is remembered for a minute
        hub.process.kill()
        hub.process.wait(timeout=15)

        for tool, arguments in (
            ("adopt_job", {"hub_job_id": job.id}),
            ("list_jobs", {"outside": True}),
        ):
            refusal = await alice.refused(tool, **arguments)
            assert refusal["code"] == "Unavailable"
            assert "Hugging Face" in refusal["message"]


async def test_outside_goes_with_no_filter_of_ours(alice: Person) -> None:
    """The Hub does not know our workspaces; a filter that is ignored would be a wrong answer."""
    for arguments in ({"outside": True, "state": "running"}, {"namespace": "alice"}):
        assert (await alice.refused("list_jobs", **arguments))["code"] == "Invalid"


async def test_a_token_without_the_scope_of_jobs_adopts_nothing(alice: Person) -> None:
    """It could not stop what it has adopted."""
    reader = find_user(alice.hub.users, "alice", LocalTokenKind.READ).token

    refusal = read_refusal(
        await call_tool(alice.url, "adopt_job", caller_token=reader, hub_job_id=UNKNOWN_ID)
    )

    assert refusal["code"] == "InsufficientScope"


def test_the_id_of_a_handle_follows_from_the_job() -> None:
    """The same person and job give the same handle, also after a restore; others give others."""
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    one = ids.derive_id(moment, "ada", "org", "1")

    assert one == ids.derive_id(moment, "ada", "org", "1")
    assert one != ids.derive_id(moment, "bob", "org", "1")
    assert one != ids.derive_id(moment, "adao", "rg", "1")
    assert (one.version, UUID(int=one.int).variant) == (7, "specified in RFC 4122")
    assert ids.parse_handle(HandleKind.JOB, ids.format_handle(HandleKind.JOB, one)) == one


async def test_nothing_is_adopted_before_a_restored_database_was_compared_with_the_hub(
    database: Database, alice: Person
) -> None:
    """It may be the run of a job that the backup has as queued, which would be launched again."""
    started = alice.start("true")
    await alice.call("create_workspace", name="w")
    subject_id = (await alice.call("whoami"))["subject_id"]
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO restored_subject (subject_id, backup_at) VALUES ($1, now())", subject_id
        )

    adopting = await alice.refused("adopt_job", hub_job_id=started.id)
    listing = await alice.refused("list_jobs", outside=True)

    assert adopting["code"] == listing["code"] == "Unavailable"
    assert "after a restore" in adopting["message"]
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job WHERE subject_id = $1", subject_id) == 0
        await tx.execute("UPDATE restored_subject SET reconciled_at = now()")
    assert (await alice.call("adopt_job", hub_job_id=started.id))["job_id"]
