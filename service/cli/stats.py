"""`holdfast stats`: what the database takes up on disk, as tables or as JSON."""

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.table import Column, Table

from schema.accounts.row_security import open_worker_database
from schema.db import disk_usage
from schema.db.disk_usage import DiskUsage
from schema.settings import Settings

_UNIT_FACTOR: Final = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("--json", action="store_true", help="the same as JSON, in bytes")


async def show_stats(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    """Read the sizes, and print them.

    Raises:
        Unavailable: the database cannot be reached.
    """
    async with (
        open_worker_database(
            str(settings.database_url), application_name="holdfast-stats", pooled=settings.pooled
        ) as database,
        database.transaction() as tx,
    ):
        usage = await disk_usage.read_disk_usage(tx)
    if options.json:
        text = json.dumps(asdict(usage), default=datetime.isoformat, indent=2)
        console.print(text, soft_wrap=True, markup=False)
        return
    console.print(_format_tables(usage))
    console.print(_format_kinds(usage))


def _format_tables(usage: DiskUsage) -> Table:
    table = Table(
        Column("table", no_wrap=True),
        "rows", "heap", "indexes", "large values", "all", "oldest row",
        show_edge=False, title=f"Database: {_format_bytes(usage.database_bytes)}",
    )  # fmt: skip
    for each in usage.tables:
        sizes = (each.heap_bytes, each.index_bytes, each.toast_bytes, each.total_bytes)
        table.add_row(
            each.name,
            f"{each.rows:,}",
            *map(_format_bytes, sizes),
            "" if each.oldest is None else f"{each.oldest:%Y-%m-%d}",
        )
    return table


def _format_kinds(usage: DiskUsage) -> Table:
    table = Table(
        "kind", "jobs", "bytes", "jobs of the last day", "bytes of the last day",
        show_edge=False, title="Jobs",
    )  # fmt: skip
    for each in usage.kinds:
        table.add_row(
            each.kind,
            f"{each.jobs:,}",
            _format_bytes(each.bytes),
            f"{each.jobs_of_day:,}",
            _format_bytes(each.bytes_of_day),
        )
    return table


def _format_bytes(size: int) -> str:
    """Write a size in the unit that leaves at most four digits."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < _UNIT_FACTOR:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _UNIT_FACTOR
    return f"{amount:,.1f} TiB"
