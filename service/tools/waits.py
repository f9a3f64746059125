"""The tool that waits."""

from datetime import timedelta
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from service import waits
from service.context import AppDep, CallerDep, ProgressDep
from service.sdk import READS, Contract, contract, told
from service.tools.jobs import JobIds
from service.views import WaitView
from service.waits import Mode, Terms, Until

Seconds = Annotated[float, Field(gt=0, le=45)]
Since = Annotated[
    int | dict[str, int],
    Field(description='The version you saw; of several jobs {"job_…": 3}.'),
]


async def wait_for_jobs(
    job_ids: JobIds,
    mode: Mode = Mode.ANY,
    until: Until = Until.CHANGE,
    since_version: Since | None = None,
    timeout_seconds: Seconds = 30,
    *,
    app: AppDep,
    caller: CallerDep,
    progress: ProgressDep,
) -> Annotated[CallToolResult, WaitView]:
    """Wait until any or all of the jobs have changed, or until nothing of them will change.

    It answers at once if that holds already, and else as soon as it does; the jobs go on whether
    you wait or not. When it is timed_out just call it again as next_step says: with since_version
    no change is missed in between. Prefer this to polling job_status.
    """
    length = timedelta(seconds=timeout_seconds)
    terms = Terms(mode, until, waits.seen(job_ids, since_version), length)
    view = await waits.wait(app, caller, job_ids, terms, progress)
    each = len(view.jobs) > 1 and view.done
    lines = [
        f"{job.job_id}: {job.summary}{f' {job.next_step}' if each else ''}" for job in view.jobs
    ]
    lines += [error.message for error in view.errors]
    return told("\n".join([*lines, view.next_step]), view)


def contracts() -> list[Contract]:
    """Publish this tool."""
    handle = "job_01krz4c0s0e5xv4k6w2q8ntb7m"
    return [contract(wait_for_jobs, "Wait for jobs", READS, job_ids=[handle], until="terminal")]
