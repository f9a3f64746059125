"""All rows that an attack could change or add."""

from schema.db.database import Database

_WEBHOOK_TABLES = ("webhook_target", "webhook_secret", "webhook_delivery", "unseen_job")


async def read_all_rows(database: Database) -> list[str]:
    """Read everything that an attack could change, or make."""
    tables = ("job", "job_payload", "job_event", "remote_run", "log_chunk", "poll_group")
    async with database.transaction() as tx:
        return [
            row["text"]
            for table in (
                *tables,
                "job_log",
                "workspace",
                "idempotency_key",
                "schedule",
                *_WEBHOOK_TABLES,
            )
            for row in await tx.fetch(f"SELECT it::text AS text FROM {table} AS it ORDER BY 1")  # noqa: S608
        ]
