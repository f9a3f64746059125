"""Connections for backups, which read and write for as long as that takes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg

from schema.common.urls.postgres import parse_postgres_url
from schema.db.revisions import CONNECT_ERRORS, CannotConnect

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_WITHOUT_LIMITS: Final = "; ".join(
    f"SET LOCAL {name}_timeout = 0" for name in ("statement", "idle_in_transaction_session")
)


@asynccontextmanager
async def open_transaction(
    url: str, *, application_name: str, reads_only: bool
) -> AsyncGenerator[asyncpg.Connection]:
    """Open a transaction on a connection of its own, as the login itself.

    Args:
        reads_only: then all of its statements see the same moment.

    Raises:
        CannotConnect: there is no connection, or it was lost; nothing was committed.
    """
    try:
        connection = await parse_postgres_url(url).connect(
            timeout=_CONNECT_TIMEOUT,
            server_settings={"application_name": application_name},
            statement_cache_size=0,
        )
        try:
            async with connection.transaction(
                isolation="repeatable_read" if reads_only else "read_committed",
                readonly=reads_only,
            ):
                await connection.execute(f"SET LOCAL search_path = public; {_WITHOUT_LIMITS}")
                yield connection
        finally:
            await connection.close(timeout=5)
    except CONNECT_ERRORS as error:
        raise CannotConnect(error) from error
