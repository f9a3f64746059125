"""Spans of what a worker does for a job, in the trace of the call that has launched it."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager

from schema.common import ids
from schema.common.observability.tracing import Span, Tracer, start_span
from schema.jobs import work_queues
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.run_tables import RemoteRun
from workers.context import Worker


def trace_attempt(
    tracer: Tracer | None, kind: str, claim: ClaimedJob
) -> AbstractContextManager[Span | None]:
    """Trace an attempt, from the claim to the written outcome."""
    return start_span(
        tracer,
        f"process {kind}",
        "consumer",
        parent=claim.traceparent,
        attributes={
            "messaging.system": "postgresql",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": kind,
            "holdfast.handle": ids.format_handle(ids.HandleKind.JOB, claim.job_id),
            "holdfast.run": str(claim.run_id),
            "holdfast.attempt": claim.attempt,
            "holdfast.request_id": claim.request_id,
        },
    )


def trace_poll(tracer: Tracer | None, *, runs: int) -> AbstractContextManager[Span | None]:
    """Trace one listing for the runs of many calls, in a trace of its own."""
    return start_span(
        tracer, "poll runs", "internal", parent=None, attributes={"holdfast.runs": runs}
    )


@asynccontextmanager
async def trace_run(worker: Worker, run: RemoteRun, name: str) -> AsyncGenerator[None]:
    """Trace a step of a run that was launched before; `name` is that of the step."""
    if worker.tracer is None:
        yield
        return
    async with worker.database.transaction() as tx:
        parent = await work_queues.read_traceparent(tx, run.job_id)
    handle = ids.format_handle(ids.HandleKind.JOB, run.job_id)
    attributes = {"holdfast.handle": handle, "holdfast.run": str(run.id)}
    with start_span(worker.tracer, name, "internal", parent=parent, attributes=attributes):
        yield
