"""The scenario of recovery: from the SIGKILL of a worker in a launch to a job that runs.

The worker dies after the Hub has created the job and before anything is written down, which is the
worst moment. Another one starts at once, as a supervisor does. The local Hub is real, and all
settings are the defaults. The Hub must have one job afterwards, or nothing counts.

The peer is arq by its documentation and source (arq 0.28): a job whose worker was killed is run
again when its key `arq:in-progress:` expires, which is the largest timeout of any function and 10 s
(`Worker.in_progress_timeout_s`), and `job_timeout` is 300 s unless it is set. It may run twice.
"""

import asyncio
import signal
import time
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.accounts.row_security import DatabaseRole
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind, JobState
from service.local.hub_emulator.users import find_user
from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.servers import BenchServers, run_servers, run_worker_process
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.jobs.batch_runs import lend_token
from tests.support.polling import eventually
from tests.support.programs import run_program

_ARQ_SECONDS: Final = 310.0
_ROUNDS: Final = {Size.TINY: 1, Size.QUICK: 1, Size.FULL: 3}
_SETTINGS: Final[dict[Size, dict[str, str]]] = {
    Size.TINY: {"HOLDFAST_LEASE": "3s", "HOLDFAST_POST_TIMEOUT": "2s"},
    Size.QUICK: {},
    Size.FULL: {},
}
_FAILPOINT: Final = "launch.sent:1:kill"
_SUBJECT: Final = "bench"
_USER: Final = "alice"
_KILL_TIMEOUT_SECONDS: Final = 60
_RECOVERY_TIMEOUT: Final = timedelta(minutes=6)
_SPEC: Final[dict[str, Any]] = {
    "image": "python:3.12",
    "command": ["sleep", "600"],
    "flavor": "cpu-basic",
    "timeout": 900,
}


def measure_recovery(run: BenchRun) -> Rounds:
    """Kill a worker in a launch, and wait until another one has found the job."""
    seconds: list[float] = []
    with run_servers(run.folder) as servers, run_hub_emulator(run.folder / "emulator") as hub:
        environment = servers.make_environment(hub.url, **_SETTINGS[run.size])
        log = run.folder / "worker.log"
        for number in range(_ROUNDS[run.size]):
            run.report(f"round {number + 1} of {_ROUNDS[run.size]}: about a lease")
            job_id = asyncio.run(_submit_job(servers, hub, number))
            armed = environment | {"HOLDFAST_FAILPOINT": _FAILPOINT}
            with run_program("service", "worker", environment=armed, log=log) as process:
                exit_code = process.wait(_KILL_TIMEOUT_SECONDS)
                assert exit_code == -signal.SIGKILL, f"the worker ended with {exit_code}"
                killed_at = time.perf_counter()
            with run_worker_process(servers, environment):
                asyncio.run(_wait_until_running(servers, job_id))
                seconds.append(time.perf_counter() - killed_at)
        jobs = list(hub.api(_USER).list_jobs(namespace=_USER))
        assert len(jobs) == len(seconds), f"the Hub has {len(jobs)} jobs for {len(seconds)}"
    return {
        "holdfast": [{"recovery_seconds": each} for each in seconds],
        "arq (as documented)": [{"recovery_seconds": _ARQ_SECONDS} for _ in seconds],
    }


async def _submit_job(servers: BenchServers, hub: HubEmulatorProcess, number: int) -> UUID:
    async with servers.open_database(DatabaseRole.WORKER) as database:
        token = find_user(hub.users, _USER).token
        await lend_token(database, servers.make_vault(), token, _SUBJECT)
        async with database.transaction() as tx:
            job = await lifecycle.submit_job(
                tx,
                subject_id=_SUBJECT,
                kind=JobKind.HUB_JOB,
                namespace=_USER,
                title=f"job {number}",
                spec=_SPEC,
                labels={},
                max_open_jobs=10,
            )
    return job.id


async def _wait_until_running(servers: BenchServers, job_id: UUID) -> None:
    async with servers.open_database(DatabaseRole.WORKER) as database:

        async def read_state() -> str:
            async with database.transaction() as tx:
                state: str = await tx.fetchval("SELECT state FROM job WHERE id = $1", job_id)
            return state

        await eventually(
            read_state, lambda state: state == JobState.RUNNING, timeout=_RECOVERY_TIMEOUT
        )
