"""The tool that runs a job again."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.job import JobKind
from schema.vault import Secret
from service import jobs, retries
from service.auth.caller import Scope
from service.context import AppDep, CallerDep
from service.jobs import SCOPES, Request
from service.sdk import MAKES, Contract, contract
from service.tools.jobs import JobId
from service.tools.launch import Key, Secrets, launched
from service.views import LaunchedView

Overrides = Annotated[
    dict[str, Any] | None,
    Field(description="As in the launch: image, command, flavor, timeout, env; or model, inputs…"),
]


async def retry_job(
    job_id: JobId,
    overrides: Overrides = None,
    secrets: Secrets = None,
    idempotency_key: Key = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, LaunchedView]:
    """Run a job that is over once more, with what you override, as a new job that is paid anew.

    The old one stays as it is, and rerun_of leads back to it. env and parameters are joined with
    what there was; null takes one away. Secrets have to be given again. A retry that could only
    fail alike is refused, with what to change.
    """
    async with app.transaction(caller) as tx:
        earlier = await jobs.find(tx, caller, job_id)
    caller.expect(SCOPES[earlier.kind])
    rerun = retries.rewrite(earlier, overrides or {}, secrets or {})
    retries.expect_of_use(earlier, rerun)
    payer = caller.namespace(earlier.namespace)
    if earlier.kind is JobKind.HUB_JOB:
        await app.expect_may_launch(caller, payer)
    request = Request(
        kind=earlier.kind,
        title=rerun.title,
        namespace=payer,
        spec=rerun.spec.stored(),
        labels=earlier.labels,
        workspace_id=earlier.workspace_id,
        idempotency_key=idempotency_key,
        secrets={name: Secret(text) for name, text in (secrets or {}).items()},
        rerun_of=earlier.id,
        notes=retries.caveats(earlier, rerun),
    )
    return launched(await jobs.launch(app, caller, request))


def contracts() -> list[Contract]:
    """Publish this tool."""
    return [
        contract(
            retry_job,
            "Run a job again",
            MAKES,
            *Scope,
            job_id="job_01krz4c0s0e5xv4k6w2q8ntb7m",
            overrides={"flavor": "a10g-large"},
        )
    ]
