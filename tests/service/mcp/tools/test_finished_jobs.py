"""What the tools show of jobs that a worker has carried: logs, results, failures and cancels."""

from typing import Any

import pytest

from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import REMOTE_ID, RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID


@pytest.fixture
def run_driver(database: Database) -> RunDriver:
    """A worker on the test's database."""
    return RunDriver(database)


async def test_a_log_is_read_in_order_and_once_whatever_the_page(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A cursor is the number of a line: nothing is skipped, nothing is repeated."""
    handle = job_handle(await make_job())
    written = [f"step {number}" for number in range(7)]
    await run_driver.append_log(await run_driver.start_run(), *written)

    read: list[str] = []
    page: dict[str, Any] = {"next_cursor": 0}
    while len(read) < len(written):
        page = await call_for_result(
            service_url, "job_logs", job_id=handle, cursor=page["next_cursor"], limit=3
        )
        read += [line["text"] for line in page["lines"]]

    assert read == written
    assert not page["complete"]
    assert f"cursor={len(written)}" in page["next_step"]


async def test_the_end_of_a_log_can_be_asked_for(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Most questions about a log are about its end."""
    handle = job_handle(await make_job())
    await run_driver.append_log(await run_driver.start_run(), "a", "b", "c")

    answer = await call_tool(service_url, "job_logs", job_id=handle, tail=2)
    both = await call_tool(service_url, "job_logs", job_id=handle, tail=2, cursor=1)

    assert answer_text(answer).endswith("b\nc")
    assert "goes with neither cursor nor grep" in answer_text(both)


async def test_a_failed_command_comes_with_the_end_of_its_log(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """The evidence is in the answer, not one more call away."""
    handle = job_handle(await make_job())
    run_id = await run_driver.start_run()
    await run_driver.append_log(
        run_id, *(f"line {number}" for number in range(30)), "KeyError: 'loss'"
    )
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
    )

    [view] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    assert view["log_tail"][-1] == "KeyError: 'loss'"
    assert len(view["log_tail"]) == 20
    assert view["summary"].startswith(
        "Failed: the command exited with code 3: it raised KeyError: 'loss' (log line 30)."
    )
    assert view["evidence"][-1] == "log line 30: KeyError: 'loss'"
    assert f'job_logs(job_id="{handle}", cursor=25)' in view["next_step"]
    assert view["poll_after_seconds"] is None


async def test_a_result_is_refused_until_there_is_one(
    service_url: str, make_job: JobFactory
) -> None:
    """The refusal says when to ask again, so that nobody polls blindly."""
    handle = job_handle(await make_job())

    answer = await call_tool(service_url, "job_result", job_id=handle)

    assert read_refusal(answer)["code"] == "Conflict"
    assert f'wait_for_jobs(job_ids="{handle}", until="terminal")' in answer_text(answer)


async def test_the_answer_of_a_model_is_the_result(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """What was paid for can be collected, as often as one likes."""
    spec = {"model": "m/m", "inputs": [{"role": "user", "content": "Hi"}]}
    handle = job_handle(await make_job(kind=JobKind.INFERENCE, spec=spec))
    run_id = await run_driver.start_run(JobKind.INFERENCE)
    answer = {
        "text": "Hello!",
        "finish_reason": "stop",
        "model": "m/m",
        "provider": "groq",
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cached": 0},
    }
    result = {"task": "chat-completion", **answer}
    await run_driver.answer_run(run_id, RunResult(JobState.SUCCEEDED, "ANSWERED", result=result))

    first = await call_tool(service_url, "job_result", job_id=handle)
    again = await call_tool(service_url, "job_result", job_id=handle)

    assert answer_text(first) == answer_text(again)
    assert answer_text(first).endswith("Hello!")
    assert first.structured_content is not None
    assert first.structured_content["result"] == result


async def test_an_answer_that_was_cut_off_says_so(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Half an answer that looks whole is worse than none."""
    handle = job_handle(await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"}))
    cut: dict[str, Any] = {"text": "Once upon", "finish_reason": "length", "usage": None}
    run_id = await run_driver.start_run(JobKind.INFERENCE)
    await run_driver.answer_run(run_id, RunResult(JobState.SUCCEEDED, "ANSWERED", result=cut))

    view = await call_for_result(service_url, "job_result", job_id=handle)

    assert "cut off at max_tokens" in view["next_step"]
    assert view["result"]["usage"] is None
    assert (view["exit_code"], view["log_tail"], view["evidence"]) == (None, None, [])


async def test_what_a_command_printed_is_its_result(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A command has no other answer."""
    handle = job_handle(await make_job())
    run_id = await run_driver.start_run()
    await run_driver.append_log(run_id, "42")
    await run_driver.end_run(run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", exit_code=0))

    view = await call_for_result(service_url, "job_result", job_id=handle)

    assert (view["exit_code"], view["log_tail"]) == (0, ["42"])


async def test_a_cancelled_job_costs_money_until_it_is_seen_to_be_over(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Nobody is told that spending has ended before it has."""
    handle = job_handle(await make_job())
    run_id = await run_driver.start_run()

    stopping = await call_for_result(service_url, "cancel_job", job_id=handle)
    await run_driver.end_run(run_id, RunResult(JobState.CANCELLED, "CANCELED"))
    [stopped] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    assert (stopping["state"], stopping["upstream"]) == ("cancelled", "stopping")
    assert "may still cost money" in stopping["summary"]
    assert stopping["poll_after_seconds"] == 2
    assert (stopped["upstream"], stopped["poll_after_seconds"]) == ("stopped", None)


async def test_cancelling_a_finished_job_changes_nothing_and_says_so(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A late cancel does not rewrite history."""
    job = await make_job()
    await run_driver.end_run(
        await run_driver.start_run(), RunResult(JobState.SUCCEEDED, "COMPLETED", exit_code=0)
    )

    answer = await call_tool(service_url, "cancel_job", job_id=job_handle(job))

    assert answer_text(answer).startswith(
        "Nothing was changed, for it had already finished. Succeeded"
    )
    async with database.transaction() as tx:
        assert not await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
        assert await tx.fetchval("SELECT state FROM job") == "succeeded"


async def test_a_running_job_links_to_its_page_at_the_hub(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A person wants to see it with their own eyes."""
    handle = job_handle(await make_job())
    await run_driver.start_run()

    [view] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    assert view["url"].endswith(f"/jobs/ada/{REMOTE_ID}")
    assert (view["state"], view["upstream"], view["stage"]) == ("running", "live", "RUNNING")
