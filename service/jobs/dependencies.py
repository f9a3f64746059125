"""May a job wait for these others? Only for the caller's own, and not for what can never come."""

from collections.abc import Sequence
from uuid import UUID

from schema.common.errors import Conflict
from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import FINAL_STATES, JobState
from service.auth.caller import Caller
from service.jobs import operations
from service.runtime.context import App
from service.views import job_summary


async def find_parents(
    app: App, caller: Caller, parent_handles: list[str] | None, condition: DependencyCondition
) -> Sequence[UUID]:
    """Find the jobs that are to end first.

    Raises:
        Invalid: one is not a handle of a job.
        NotFound: the caller has no such job.
        Conflict: one has ended otherwise than it would have to.
    """
    if not parent_handles:
        return ()
    async with app.transaction(caller) as tx:
        parents = [
            await operations.find_job(tx, caller, handle)
            for handle in dict.fromkeys(parent_handles)
        ]
    for parent in parents:
        if (
            condition is DependencyCondition.SUCCESS
            and parent.state in FINAL_STATES
            and parent.state is not JobState.SUCCEEDED
        ):
            raise Conflict(
                f"{job_summary.job_handle(parent)} is {parent.state}, so what has to wait for its "
                f"success would never begin, and nothing was launched. Run it again with "
                f'retry_job and wait for the new job, or pass on="finish".'
            )
    return [parent.id for parent in parents]
