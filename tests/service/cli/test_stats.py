"""`holdfast stats`, as an operator and a program read it."""

import argparse
import json
from collections.abc import Callable
from io import StringIO

from rich.console import Console

from schema.db.database import Database
from schema.jobs.tables import JobKind
from schema.settings import Settings
from schema.tables import METADATA
from service.cli import stats
from tests.support.factories import JobFactory


async def run_command(settings: Settings, *words: str, width: int = 120) -> str:
    parser = argparse.ArgumentParser()
    stats.add_arguments(parser)
    output = StringIO()
    console = Console(file=output, width=width, highlight=False)
    await stats.show_stats(parser.parse_args(words), settings, console)
    return output.getvalue()


async def test_every_table_and_every_kind_has_its_size(
    database: Database, make_settings: Callable[..., Settings], make_job: JobFactory
) -> None:
    """Large values count where they are stored, and each kind has what its jobs brought."""
    await make_job(spec={"image": "i", "command": ["true"]})
    call = await make_job(kind=JobKind.INFERENCE, spec={"model": "m"})
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO job_file (job_id, name, subject_id, size_bytes, sha256, content)
            SELECT id, 'a', subject_id, 300000, 'x', convert_to(repeat('a', 300000), 'UTF8')
              FROM job WHERE id = $1
            """,
            call.id,
        )
        await tx.execute("ANALYZE job")

    usage = json.loads(await run_command(make_settings(), "--json"))
    text = await run_command(make_settings())
    narrow = await run_command(make_settings(), width=80)

    tables = {table["name"]: table for table in usage["tables"]}
    assert set(METADATA.tables) <= set(tables)
    assert tables["job"]["rows"] == 2
    assert tables["job"]["oldest"] is not None
    assert tables["job_file"]["toast_bytes"] > 300_000
    assert usage["database_bytes"] > sum(table["heap_bytes"] for table in tables.values())
    first, second = usage["kinds"]
    assert (first["kind"], first["jobs"], first["jobs_of_day"]) == ("inference", 1, 1)
    assert first["bytes"] == first["bytes_of_day"] > 300_000
    assert (second["kind"], second["jobs"]) == ("hub_job", 1)
    assert 0 < second["bytes"] < 2000
    assert "batch_item" in text
    assert all(name in narrow for name in METADATA.tables), narrow
    assert "293." in text
