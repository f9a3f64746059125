"""Every reply fits its host, whatever is stored and whatever is sent.

The database has jobs of all kinds, a workspace and a schedule, made as the service and a worker
make them. Each example writes other content into them, and calls a tool. Thousands are tried by

    .venv/bin/python -m pytest -n 0 --hypothesis-profile=thorough -k whatever_is_stored
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import anyio.from_thread
import anyio.to_thread
import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from hypothesis.vendor.pretty import pretty

from schema.accounts.vault import Vault
from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.batches import store as batch_store
from schema.batches.store import ItemOutcome
from schema.batches.tables import ItemState
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from service.app import build_all_tools
from service.views.pages import DEFAULT_REPLY_BYTES, MAX_REPLY_BYTES
from tests.support.factories import JobFactory, StartService
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.jobs.retention import keep_for_a_month
from tests.support.jobs.schedule_states import make_schedule
from tests.support.mcp.brief_value import BriefValue
from tests.support.mcp.valid_arguments import UNKNOWN_JOB_ID
from tests.support.subjects import ADA_TOKEN

HEADERS: Final = {
    "authorization": f"Bearer {ADA_TOKEN}",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}
MANY_JOBS: Final = 50
ITEM_COUNT: Final = 30
Arguments = dict[str, Any]
AnyValues = SearchStrategy[Any]
HANDLE_FIELDS: Final = ("job_id", "workspace_id", "schedule_id", "next_cursor", "next_offset")
"""Of an object: what the next call needs, so that it stands in the text too."""
ABOUT_NOTHING_STORED: Final = frozenset(
    {
        *("whoami", "list_hardware", "launch_job", "launch_inference", "launch_space_call"),
        *("create_workspace", "create_schedule", "archive_workspace", "delete_schedule"),
        *("rotate_webhook_secret", "adopt_job"),
    }
)
"""Tools whose answer has nothing of the rows that examples change."""
LARGEST: Final[dict[str, Any]] = {"limit": 100, "max_bytes": 200_000}


def repeat_text(piece: str, count: int) -> str:
    """Make a long text."""
    return piece * count


PIECES: Final = (
    *("x", "é", "😀", '"', "\\", "\x01", "\u2028", "</script>", "line\n", " ", "https://a/"),
    *('{"a": [', "Error: ", "No module named a.", "https://huggingface.co/a/", "{x}", "%s"),
)
TEXTS: Final[SearchStrategy[str]] = st.builds(
    repeat_text, st.sampled_from(PIECES), st.sampled_from([1, 5, 40, 200, 3000])
)


def cut_texts(max_chars: int) -> SearchStrategy[str]:
    """Make texts of a field that has a limit; its first character is no space."""
    return TEXTS.map(lambda text: f"a{text}"[:max_chars])


def repeat_value(value: Any, count: int) -> list[Any]:
    """Make a list of many."""
    return [value] * count


def name_values(name: str, value: Any, count: int) -> Arguments:
    """Make an object of many members."""
    return {f"{name}{number}": value for number in range(count)}


def number_handles(one: str, bad: str, count: int) -> list[str]:
    """Name one job, and many that are none."""
    return [one, *(f"{number}{bad}" for number in range(count))]


def nest(inside: AnyValues) -> AnyValues:
    """Put values into lists and objects."""
    counts = st.sampled_from([1, 9, 100])
    lists = st.builds(repeat_value, inside, counts)
    return lists | st.builds(name_values, cut_texts(90), inside, counts)


def merge(arguments: Arguments, others: Arguments) -> Arguments:
    """Join arguments."""
    return arguments | others


def deepen(value: Any, levels: int) -> Any:
    """Put a value deep into lists."""
    for _ in range(levels):
        value = [value]
    return value


SMALL_TEXTS: Final = TEXTS.filter(lambda text: len(text) <= 1000)
RESULTS: Final[SearchStrategy[Arguments]] = st.one_of(
    TEXTS.map(lambda text: {"text": text, "finish_reason": text[:2000], "model": "m/m"}),
    nest(SMALL_TEXTS).map(lambda value: {"value": value}),
    SMALL_TEXTS.map(lambda text: {"value": deepen(text, 90)}),
    st.builds(name_values, cut_texts(90), cut_texts(90), st.sampled_from([2, 500])),
    SMALL_TEXTS.map(lambda text: {"labels": [{"label": text, "score": 0.5}] * 300}),
    st.integers(1, 50).map(lambda count: {"embeddings": [[0.123456789] * 300] * count}),
)


@dataclass(frozen=True)
class ToolCall(BriefValue):
    """A call."""

    tool: str
    arguments: Arguments


@dataclass(frozen=True)
class Content(BriefValue):
    """What is stored."""

    text: str
    other: str
    line: str
    name: str
    """Of a file; it has up to 1000 characters."""
    result: dict[str, Any]
    reason: Reason


CONTENT: Final[SearchStrategy[Content]] = st.builds(
    Content,
    text=TEXTS,
    other=TEXTS,
    line=TEXTS.map(lambda text: text.replace("\n", "")[:30_000]),
    name=cut_texts(990),
    result=RESULTS,
    reason=st.sampled_from([reason for reason in Reason if reason is not Reason.CALL_FAILED]),
)


@dataclass(frozen=True)
class Stored:
    """The rows whose content each example replaces."""

    database: Database
    failed: UUID
    answered: UUID
    changed: Sequence[UUID]
    """Jobs whose content each example replaces: one of each kind, and some of a list."""
    handles: Mapping[str, str]
    many: Sequence[str]

    async def replace_content(self, content: Content) -> None:
        """Write other content into all rows, past the transitions that bound some of it."""
        text, result = content.text, content.result
        names = [f"{number} {content.name}" for number in range(12)]
        uris = ["hf://buckets/ada/jobs/" + content.name[:900]] * 12
        label = {f"{number}{content.other[:90]}": content.text[:90] for number in range(20)}
        addresses = {"exposed": [content.other] * 20, "ssh": content.other}
        progress = {"done": 1, "total": 2, "message": content.text[:200]}
        async with self.database.transaction() as tx:
            await tx.execute("SET LOCAL session_replication_role = replica")
            await tx.execute(
                "UPDATE job SET message = $1, title = left($1, 80), labels = $2, progress = $3,"
                " reason = CASE WHEN state = 'failed' THEN $4 ELSE reason END"
                " WHERE id = ANY($5)",
                text,
                label,
                progress,
                content.reason,
                self.changed,
            )
            await tx.execute(
                "UPDATE remote_run SET stage = left($1, 5000), addresses = $2", text, addresses
            )
            await tx.execute(
                "UPDATE job_payload SET result = $1 WHERE job_id = ANY($2)", result, self.changed
            )
            await tx.execute(
                "UPDATE job_payload SET spec = spec || $1 WHERE job_id = ANY($2)",
                {"command": [content.other], "image": content.other[:300]},
                self.changed,
            )
            await tx.execute(
                "UPDATE log_chunk SET lines = ARRAY(SELECT $1 || n FROM generate_series(1, $2) n)",
                content.line,
                30,
            )
            await tx.execute(
                "UPDATE batch_item SET message = $1, custom_id = position || left($2, 190),"
                " result = CASE WHEN state = 'done' THEN $3::jsonb END",
                text,
                content.other,
                result,
            )
            await tx.execute("DELETE FROM job_file")
            await tx.execute(
                "UPDATE schedule SET name = left($1, 200), title = left($1, 80), labels = $2",
                f"a{text}",
                label,
            )
            await tx.execute("UPDATE workspace SET name = right(id::text, 9) || left($1, 90)", text)
            await tx.execute("UPDATE schedule_firing SET message = $1", text[:2000])
            for job_id in (self.failed, self.answered):
                await files.save_files(
                    tx,
                    job_id,
                    [
                        NewJobFile(name, 1, text[:300], revision=text[:300], uri=uri)
                        for name, uri in zip(names, uris, strict=True)
                    ],
                )


async def make_rows(
    client: httpx2.Client, database: Database, vault: Vault, make_job: JobFactory
) -> Stored:
    """Make what is listed, shown and read, by the steps of the service and of a worker."""
    run_driver, long = RunDriver(database), timedelta(hours=1)

    async def start_batch() -> UUID:
        async with database.transaction() as tx:
            [claim] = await run_launch.claim(
                tx, JobKind.BATCH, limit=1, worker="w", lease=long, settle_window=long
            )
        async with database.transaction() as tx:
            await run_launch.begin_calls(tx, [claim.run_id], worker="w")
            await batch_store.advance_items(tx, claim.run_id, max_new_items=ITEM_COUNT)
            outcomes = [
                ItemOutcome(n, ItemState.DONE, 1, {"text": "a"})
                if n % 2
                else ItemOutcome(n, ItemState.FAILED, 1, None, Reason.INVALID_REQUEST, "a")
                for n in range(ITEM_COUNT)
            ]
            await batch_store.advance_items(tx, claim.run_id, outcomes, after_position=ITEM_COUNT)
        return claim.job_id

    def read(tool: str, field: str, **arguments: Any) -> str:
        result = call(client, tool, arguments).json()["result"]
        return str(result["structuredContent"][field])

    workspace = await anyio.to_thread.run_sync(
        lambda: read("create_workspace", "workspace_id", name="w")
    )
    workspace_id = ids.parse_handle(HandleKind.WORKSPACE, workspace)
    failed = await make_job(workspace_id=workspace_id)
    run_id = await run_driver.start_run(remote_id="0" * 24)
    await run_driver.append_log(run_id, *["a"] * 30)
    await run_driver.end_run(run_id, RunResult(JobState.FAILED, "ERROR", Reason.OOM, "a", 1))
    answered = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"}, title="m/m")
    run_id = await run_driver.start_run(JobKind.INFERENCE)
    await run_driver.answer_run(run_id, RunResult(JobState.SUCCEEDED, "OK", result={"text": "a"}))
    items = [{"custom_id": f"{n}", "inputs": "Hi"} for n in range(ITEM_COUNT)]
    batch = await anyio.to_thread.run_sync(
        lambda: read("launch_inference", "job_id", model="m/m", items=items)
    )
    await start_batch()
    running = await make_job()
    run_id = await run_driver.start_run(remote_id="1" * 24)
    await run_driver.append_log(run_id, *["a"] * 30)
    listed = [await make_job(workspace_id=workspace_id) for _ in range(MANY_JOBS)]
    schedules = [await make_schedule(database, vault, due_in=long, name=f"s{n}") for n in range(25)]
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO schedule_firing (schedule_id, fire_at, subject_id, asked, became, code,"
            " message) SELECT id, now() - n * interval '1h', subject_id, false, 'refused',"
            " 'Denied', 'a' FROM schedule, generate_series(1, 5) n"
        )
    handles = {
        "workspace_id": workspace,
        "schedule_id": ids.format_handle(HandleKind.SCHEDULE, schedules[0]),
        "failed": job_handle(failed),
        "answered": job_handle(answered),
        "batch": batch,
        "running": job_handle(running),
    }
    batch_id = ids.parse_handle(HandleKind.JOB, batch)
    changed = [failed.id, answered.id, running.id, batch_id, *(job.id for job in listed[-12:])]
    many = [job_handle(job) for job in listed]
    return Stored(database, failed.id, answered.id, changed, handles, many)


def make_calls(handles: Mapping[str, str], many: Sequence[str]) -> dict[str, SearchStrategy[Any]]:
    """Call each tool as a model does, with most of what is asked for, and with what is hostile."""
    job: AnyValues = st.sampled_from(
        [handles[name] for name in ("failed", "answered", "batch", "running")]
    )
    workspace: AnyValues = st.just(handles["workspace_id"])
    schedule: AnyValues = st.just(handles["schedule_id"])
    printed: AnyValues = st.sampled_from([handles["failed"], handles["running"]])
    unknown: AnyValues = st.sampled_from([UNKNOWN_JOB_ID, *many]) | cut_texts(5000)
    job_ids: AnyValues = st.one_of(
        job,
        st.builds(list[str], st.just(many)),
        st.just([UNKNOWN_JOB_ID[:-2] + f"{n:02}" for n in range(MANY_JOBS)]),
        st.builds(number_handles, job, cut_texts(900), st.sampled_from([3, MANY_JOBS - 1])),
        st.lists(unknown, min_size=1, max_size=MANY_JOBS),
    )
    command: SearchStrategy[Arguments] = st.fixed_dictionaries(
        {"command": TEXTS.map(lambda text: ["echo", text])},
        optional={
            "env": TEXTS.map(lambda text: {f"A{n}": text for n in range(9)}),
            "name": cut_texts(200),
            "flavor": TEXTS,
            "namespace": TEXTS,
            "labels": TEXTS.map(lambda text: {text: text}),
            "workspace_id": workspace,
        },
    )
    script: SearchStrategy[Arguments] = TEXTS.map(lambda text: {"script": f"# {text}\nprint(1)"})
    inference: SearchStrategy[Arguments] = st.fixed_dictionaries(
        {"model": st.just("m/m") | TEXTS, "inputs": TEXTS},
        optional={"parameters": TEXTS.map(lambda text: {"stop": [text] * 4, "user": text})},
    )
    space: SearchStrategy[Arguments] = st.fixed_dictionaries(
        {"space": st.just("ada/asleep") | TEXTS, "arguments": nest(SMALL_TEXTS)}
    )
    launch: dict[str, AnyValues] = {"dry_run": st.booleans(), "idempotency_key": cut_texts(300)}
    page: dict[str, AnyValues] = {"limit": st.just(100), "cursor": TEXTS}
    query: dict[str, AnyValues] = {
        "cursor": st.sampled_from([0, 1, 9]),
        "limit": st.sampled_from([1, 100]),
    }
    long_cron: AnyValues = st.builds(repeat_text, st.just("0,"), st.just(9_000)).map(
        "{}0 * * * *".format
    )
    cron: AnyValues = st.sampled_from(["@daily", "* * * * *"]) | long_cron | TEXTS
    timing: dict[str, AnyValues] = {
        "cron": cron,
        "timezone": st.just("UTC") | TEXTS,
        "name": cut_texts(200),
    }
    return {
        "whoami": st.just({}),
        "create_upload": st.fixed_dictionaries({"name": TEXTS}, optional={"media_type": TEXTS}),
        "spending": st.fixed_dictionaries({}, optional={"group_by": TEXTS, "month": TEXTS}),
        "list_hardware": st.fixed_dictionaries({}, optional={"gpu_only": st.booleans()}),
        "job_status": st.fixed_dictionaries({"job_ids": job_ids}),
        "wait_for_jobs": st.fixed_dictionaries(
            {"job_ids": job_ids, "timeout_seconds": st.just(0.01)},
            optional={"since_version": TEXTS.map(lambda text: {text: 1})},
        ),
        "list_jobs": st.fixed_dictionaries({}, optional={**page, "kind": TEXTS, "text": TEXTS}),
        "job_logs": st.fixed_dictionaries(
            {"job_id": printed, "grep": st.none() | st.none() | cut_texts(200)},
            optional={"max_bytes": st.just(200_000), "cursor": st.just(3)},
        ),
        "job_result": st.fixed_dictionaries({"job_id": job}, optional=query),
        "adopt_job": st.fixed_dictionaries({"hub_job_id": TEXTS}),
        "cancel_job": st.fixed_dictionaries({"job_id": st.just(handles["failed"]) | unknown}),
        "retry_job": st.fixed_dictionaries(
            {"job_id": job}, optional={"overrides": command | inference | nest(SMALL_TEXTS)}
        ),
        "launch_job": st.builds(merge, command | script, st.fixed_dictionaries(launch)),
        "launch_inference": st.builds(merge, inference, st.fixed_dictionaries(launch)),
        "launch_space_call": st.builds(merge, space, st.fixed_dictionaries(launch)),
        "create_workspace": st.fixed_dictionaries(
            {"name": cut_texts(100)}, optional={"defaults": nest(SMALL_TEXTS)}
        ),
        "workspace_status": st.fixed_dictionaries({"workspace_id": workspace | TEXTS}),
        "list_workspaces": st.fixed_dictionaries({}, optional=page),
        "update_workspace": st.fixed_dictionaries(
            {"workspace_id": workspace, "name": cut_texts(101)},
            optional={"defaults": TEXTS.map(lambda text: {"namespace": text})},
        ),
        "archive_workspace": st.fixed_dictionaries({"workspace_id": unknown}),
        "rotate_webhook_secret": st.fixed_dictionaries({"webhook_url": TEXTS}),
        "create_schedule": st.builds(
            merge,
            st.fixed_dictionaries({**timing, "dry_run": st.booleans()}),
            command.map(lambda fields: {"job": fields})
            | inference.map(lambda fields: {"inference": fields}),
        ),
        "list_schedules": st.fixed_dictionaries({}, optional=page),
        "update_schedule": st.fixed_dictionaries({"schedule_id": schedule}, optional=timing),
        "delete_schedule": st.fixed_dictionaries({"schedule_id": unknown}),
    }


def test_an_example_is_written_in_short() -> None:
    """Whatever is long in it: hypothesis warns of it otherwise, and a warning is an error."""
    text = "é" * 90_000

    assert len(pretty(ToolCall("job_status", {"job_ids": [text]}))) <= 2000
    assert len(pretty(Content(text, text, text, text, {}, Reason.OOM))) <= 2000


def call(client: httpx2.Client, tool: str, arguments: Mapping[str, Any]) -> httpx2.Response:
    """Call a tool as a client of the older protocol does: one message, one answer."""
    params = {"name": tool, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return client.post("/mcp", content=body)


def asks_for_more(arguments: Mapping[str, Any]) -> bool:
    """Say whether a call asks for more than one that names what it needs."""
    job_ids: list[str] | str = arguments.get("job_ids", "")
    has_limit = any(arguments.get(name) == largest for name, largest in LARGEST.items())
    return (
        has_limit or arguments.get("limit") == 1 or (isinstance(job_ids, list) and len(job_ids) > 1)
    )


def expect_fitting_reply(response: httpx2.Response, arguments: Mapping[str, Any]) -> None:
    """Check the size of a reply, and that what the next call needs is in its text."""
    assert response.status_code == 200, response.text[:1000]
    max_bytes = MAX_REPLY_BYTES if asks_for_more(arguments) else DEFAULT_REPLY_BYTES
    assert len(response.content) <= max_bytes, (len(response.content), response.text[:3000])
    result = response.json()["result"]
    text = "\n".join(part.get("text", "") for part in result["content"])
    if result.get("isError"):
        error = result["_meta"]["holdfast/error"]
        assert text.startswith(error["message"])
        assert error["remedy"]
        assert error.get("next_call", "") in text or error["code"] != "Invalid"
        assert len(text.encode()) <= 8000
        return
    view = result["structuredContent"]
    assert text
    needed = [view.get(name) for name in HANDLE_FIELDS]
    needed += [job["job_id"] for job in view["jobs"]] if isinstance(view.get("jobs"), list) else []
    for value in needed:
        is_known = value in (None, view.get("length"), *arguments.values())
        assert is_known or str(value) in text, (value, text[:1000])


@pytest.fixture
def client(start_service: StartService, fake_hub: FakeHub) -> Any:
    """A client of a service that takes any number of jobs, at a Hub that writes a lot."""
    fake_hub.hardware += [
        {"name": f"x{n}", "cpu": "\x01" * 900, "unitLabel": "minute", "unitCostMicroUSD": n}
        for n in range(300)
    ]
    fake_hub.whoami_by_token["hf_ada"]["orgs"] = [
        {"name": f"{n}{'😀' * 40}", "roleInOrg": "admin"} for n in range(300)
    ]
    with (
        start_service(open_jobs=1_000_000) as url,
        httpx2.Client(base_url=url, headers=HEADERS, timeout=60) as opened,
    ):
        yield opened


@pytest.mark.timeout(300)  # thousands of examples, which are slow beside other tests
async def test_every_reply_fits_whatever_is_stored_and_whatever_is_sent(
    client: httpx2.Client, database: Database, vault: Vault, make_job: JobFactory
) -> None:
    """40 kB at the default arguments, 80 kB where more is asked for; the text has the handles."""
    stored = await make_rows(client, database, vault, make_job)
    calls = make_calls(stored.handles, stored.many)
    assert calls.keys() == {tool.name for tool in build_all_tools(keep_for_a_month)}
    any_call = st.one_of(
        *(arguments.map(partial(ToolCall, tool)) for tool, arguments in calls.items())
    )

    @settings(
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(CONTENT, any_call)
    def expect_fitting(content: Content, made: ToolCall) -> None:
        if made.tool not in ABOUT_NOTHING_STORED:
            anyio.from_thread.run(stored.replace_content, content)

        expect_fitting_reply(call(client, made.tool, made.arguments), made.arguments)

    await anyio.to_thread.run_sync(expect_fitting)
