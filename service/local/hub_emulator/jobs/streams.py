"""Server-sent events about a job: its log, its stages, its metrics."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, Final

from service.local.hub_emulator.jobs.hardware import FLAVORS
from service.local.hub_emulator.jobs.log import ChangeSignal, LocalLogLine
from service.local.hub_emulator.jobs.store import LocalJob, Stage
from service.local.hub_emulator.users import format_timestamp

_KEEP_ALIVE_INTERVAL: Final = timedelta(seconds=30)
_SAMPLE_INTERVAL: Final = timedelta(seconds=1)
_KEEP_ALIVE_EVENT: Final = ": keep-alive\n\n"


async def stream_log_events(job: LocalJob, *, tail: int | None) -> AsyncGenerator[str]:
    """Yield the log from its start to the end of the job.

    Args:
        job: the job.
        tail: of what has been written so far, yield this many lines at the end and the first line,
            which says when the job was started and which the Hub never leaves out; None yields all.
    """
    lines = job.log.lines
    sent = 0 if tail is None else max(0, len(lines) - tail)
    if sent > 0:
        yield _format_event(_format_line(lines[0]))
    while True:
        while sent < len(lines):
            yield _format_event(_format_line(lines[sent]))
            sent += 1
        if job.is_final:
            return
        if not await _wait_for_change(job.change_signal):
            yield _KEEP_ALIVE_EVENT


async def stream_stage_events(job: LocalJob) -> AsyncGenerator[str]:
    """Yield the job's status at each change of stage; the Hub does not document the form."""
    last_stage: Stage | None = None
    while True:
        if job.stage is not last_stage:
            last_stage = job.stage
            yield _format_event(job.status)
        if job.is_final:
            return
        if not await _wait_for_change(job.change_signal):
            yield _KEEP_ALIVE_EVENT


async def stream_metric_events(job: LocalJob) -> AsyncGenerator[str]:
    """Yield a sample each second while the job runs; as on the Hub, none before.

    It says what the flavor has. Usage is not measured here and is always 0.
    """
    flavor = FLAVORS[job.request.flavor]
    sample: dict[str, Any] = {
        "cpu_usage_pct": 0,
        "cpu_millicores": flavor.cpus * 1000,
        "memory_used_bytes": 0,
        "memory_total_bytes": flavor.ram_bytes,
        "rx_bps": 0,
        "tx_bps": 0,
        "gpus": {},
        "replica": job.id[:5],
    }
    while not job.is_final:
        if job.stage is Stage.RUNNING:
            yield f"event: metric\n{_format_event(sample)}"
        await asyncio.sleep(_SAMPLE_INTERVAL.total_seconds())


async def _wait_for_change(change_signal: ChangeSignal) -> bool:
    try:
        async with asyncio.timeout(_KEEP_ALIVE_INTERVAL.total_seconds()):
            await change_signal.wait()
    except TimeoutError:
        return False
    return True


def _format_line(line: LocalLogLine) -> dict[str, str]:
    return {"data": line.text, "timestamp": format_timestamp(line.timestamp)}


def _format_event(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload)}\n\n"
