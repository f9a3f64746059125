"""One walk through our tools, the same for every client: what a person does in a day."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from schema.common import ids
from tests.interop.talkers import Seen, Talker

LINE: Final = "a line that was printed"
NOBODYS: Final = ids.write(ids.Kind.JOB, ids.new_id())
_PATIENCE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Journey:
    """What a client was shown on its way."""

    version: str
    server: str
    tools: list[str]
    launched: Seen
    waited: Seen
    finished: Seen
    log: Seen
    result: Seen
    cancelled: Seen
    refused: Seen
    corrected: Seen


def walk(talker: Talker, key: str) -> Journey:
    """Launch a job and follow it, cancel another, and make two mistakes."""
    request = {"image": "python:3.12", "command": ["echo", LINE], "idempotency_key": key}
    launched = talker.call("launch_job", request)
    handle = _job(launched)
    waited = _wait(talker, handle)
    finished = talker.call("job_status", {"job_ids": [handle]})
    log = talker.call("job_logs", {"job_id": handle})
    result = talker.call("job_result", {"job_id": handle})
    long = talker.call("launch_job", {"image": "python:3.12", "command": ["sleep", "600"]})
    cancelled = talker.call("cancel_job", {"job_id": _job(long)})
    refused = talker.call("job_status", {"job_ids": [NOBODYS]})
    corrected = talker.call("launch_job", {"image": "python:3.12", "commands": ["true"]})
    return Journey(
        talker.version,
        talker.server,
        talker.tools,
        launched=launched,
        waited=waited,
        finished=finished,
        log=log,
        result=result,
        cancelled=cancelled,
        refused=refused,
        corrected=corrected,
    )


STEPS: Final[dict[str, Callable[[Journey], bool]]] = {
    "lists": lambda seen: "launch_job" in seen.tools,
    "launches": lambda seen: not seen.launched.failed,
    "waits": lambda seen: view(seen.waited)["state"] == "succeeded",
    "asks": lambda seen: view(seen.finished)["state"] == "succeeded",
    "reads the log": lambda seen: LINE in seen.log.text,
    "reads the result": lambda seen: seen.result.structured["exit_code"] == 0,
    "cancels": lambda seen: seen.cancelled.structured["state"] == "cancelled",
    "is told why": lambda seen: seen.refused.failed and NOBODYS in seen.refused.text,
}
"""What a client did, and whether it came to what was wanted."""


def _job(launched: Seen) -> str:
    assert not launched.failed, launched.text
    return str(launched.structured["job_id"])


def _wait(talker: Talker, handle: str) -> Seen:
    """Wait until nothing of the job will change any more."""
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        seen = talker.call("wait_for_jobs", {"job_ids": [handle], "until": "terminal"})
        if seen.structured["done"]:
            return seen
        assert time.monotonic() < deadline, seen.text


def view(status: Seen) -> dict[str, Any]:
    """Return the view of the one job that was asked for."""
    assert not status.failed, status.text
    shown: dict[str, Any]
    (shown,) = status.structured["jobs"]
    return shown
