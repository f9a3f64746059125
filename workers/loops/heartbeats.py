"""The heartbeat of a worker, and the probe of a supervisor that reads it."""

import socket
import time
from datetime import timedelta

from schema.accounts.row_security import open_worker_database
from schema.common.errors import Unavailable
from schema.common.version import package_version
from schema.db.revisions import require_usable_revision
from schema.jobs.monitoring import heartbeats
from schema.jobs.monitoring.heartbeats import HEARTBEAT_TIMEOUT
from schema.settings import Settings
from workers.context import Worker


async def record_heartbeat(worker: Worker, *, is_first: bool) -> None:
    """Write what this worker does at this moment.

    Raises:
        WrongRevision: this release does not run on the database any more.
    """
    activity = worker.activity
    causes = [log.latest for log in (worker.database.causes, worker.hub.causes) if log.latest]
    newest = max(causes, key=lambda cause: cause.at, default=None)
    async with worker.database.transaction() as tx:
        await require_usable_revision(tx)
        await heartbeats.record_heartbeat(
            tx,
            name=worker.name,
            version=package_version(),
            key_marks=worker.vault.key_marks,
            attempts=sum(slots.total() for slots in activity.held_slots.values()),
            since_sweep=timedelta(seconds=time.time() - activity.swept_at),
            last_error=None
            if newest is None
            else (newest.text, timedelta(seconds=time.monotonic() - newest.at)),
            is_first=is_first,
        )


async def probe_host(settings: Settings) -> tuple[bool, str]:
    """Say whether a worker of this host is alive, for a supervisor that restarts it if not.

    While the database is away nobody can tell, and a restart would mend nothing.
    """
    host = socket.gethostname()
    try:
        async with (
            open_worker_database(
                str(settings.database_url),
                application_name="holdfast-probe",
                pooled=settings.pooled,
            ) as database,
            database.transaction() as tx,
        ):
            workers = await heartbeats.list_heartbeats(tx, host=host)
    except Unavailable as error:
        return True, f"Nobody can tell: {error}"
    heard = [worker for worker in workers if worker.silent_for < HEARTBEAT_TIMEOUT]
    if not heard:
        return False, f"No worker of {host} was heard of in the last minute."
    if any(worker.idle_for < HEARTBEAT_TIMEOUT for worker in heard):
        return True, f"A worker of {host} looks for work."
    return False, f"A worker of {host} runs, and has not looked for work in the last minute."
