"""A process goes on while the database beneath it is migrated to a newer release."""

import pytest

from schema.common.errors import Unavailable
from schema.db.database import Database


async def test_a_statement_whose_table_was_altered_is_asked_again(database_url: str) -> None:
    """Nothing was done, and the same call succeeds: no bug is reported, and no loop breaks."""
    statement = "SELECT * FROM workspace"
    async with Database(database_url, application_name="tests", max_connections=1) as old_release:
        async with old_release.transaction() as tx:
            assert await tx.fetch(statement) == []
        async with (
            Database(database_url, application_name="tests") as migration,
            migration.transaction() as tx,
        ):
            await tx.execute("ALTER TABLE workspace ADD COLUMN of_a_newer_release integer")

        with pytest.raises(Unavailable, match="nothing was done"):
            async with old_release.transaction() as tx:
                await tx.fetch(statement)
        async with old_release.transaction() as tx:
            assert await tx.fetch(statement) == []
