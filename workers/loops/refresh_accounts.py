"""Refreshes of connected accounts whose jobs go on while their person does not call.

An access token of the Hub lives for hours, and a job may run for days. Before the token ends, one
worker exchanges the refresh token and gives the jobs what came, in one commit. Where that fails,
the jobs are held once the token has ended, as those of anybody whose token has ended.
"""

from typing import Final

import anyio
import structlog

from schema.accounts import connections
from schema.accounts.connections import AccountConnection
from schema.common.errors import Unavailable
from schema.hub.oauth.connection_refresh import ConnectionRefresher
from workers.context import Worker

_BATCH_SIZE: Final = 10

log = structlog.stdlib.get_logger()


async def refresh_due_accounts(worker: Worker) -> bool:
    """Refresh some of the connections that are due; true if there may be more."""
    if worker.refresher is None:
        return False
    async with worker.database.transaction() as tx:
        due = await connections.lease_due_refreshes(tx, worker.vault, limit=_BATCH_SIZE)
    async with anyio.create_task_group() as tasks:
        for connection in due:
            tasks.start_soon(_refresh_account, worker.refresher, connection)
    return len(due) == _BATCH_SIZE


async def _refresh_account(refresher: ConnectionRefresher, connection: AccountConnection) -> None:
    try:
        await refresher.renew(connection)
    except Unavailable as error:
        # A worker tries it again after a pause, and a call of its person at once.
        log.warning("connection.unrefreshed", subject=connection.subject_id, why=str(error))
