"""What is wrong with this installation, in sentences: every part we lean on, looked at once."""

from dataclasses import dataclass
from http import HTTPStatus

import httpx2
from rich.console import Console
from rich.table import Table

from schema.accounts.row_security import Role
from schema.common.errors import HoldfastError, Invalid
from schema.db import revisions
from schema.db.database import Database, Transaction
from schema.messaging import wakeups
from schema.settings import Settings

_WORKERS = """
SELECT count(DISTINCT application_name) FROM pg_stat_activity
 WHERE application_name LIKE 'holdfast-worker%' AND datname = current_database()
"""

_UNOWNED = "SELECT count(*) FROM v_unowned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part, and how it is; `remedy` says what to do when it is not well."""

    part: str
    well: bool
    says: str
    remedy: str = ""


async def examine() -> list[Finding]:
    """Look at every part, what the others stand on first."""
    try:
        settings = Settings.read()
    except Invalid as error:
        remedy = "Set these variables, or run `holdfast up`, which brings its own servers."
        return [Finding("settings", well=False, says=str(error), remedy=remedy)]
    return [*await _truth(settings), await _doorbell(settings), await _hub(settings)]


def show(console: Console, findings: list[Finding]) -> None:
    """Print the findings as a table, and what to do about the bad ones."""
    table = Table("part", "", "finding", show_edge=False)
    for finding in findings:
        mark = "[green]well[/]" if finding.well else "[red]bad[/]"
        table.add_row(finding.part, mark, finding.says)
    console.print(table)
    for finding in findings:
        if not finding.well:
            console.print(f"[bold]{finding.part}[/]: {finding.remedy}")


async def _truth(settings: Settings) -> list[Finding]:
    url = str(settings.database_url)
    try:
        async with (
            Database(url, application="holdfast-doctor", connections=1) as database,
            database.transaction() as tx,
        ):
            version = await tx.fetchval("SHOW server_version")
            revision, head = await revisions.current(tx), revisions.head()
            workers = await tx.fetchval(_WORKERS)
            unowned = await _unowned(tx) if revision == head else 0
    except HoldfastError as error:
        remedy = "Start it, or mend HOLDFAST_DATABASE_URL."
        return [Finding("database", well=False, says=str(error), remedy=remedy)]
    return [
        Finding("database", well=True, says=f"Postgres {version}"),
        Finding(
            "migrations",
            well=revision == head,
            says=f"at {revision}, this code wants {head}",
            remedy="Run `holdfast migrate`.",
        ),
        Finding(
            "workers",
            well=workers > 0,
            says=f"{workers} connected",
            remedy="Start one with `holdfast worker`; until then jobs stay queued, and are safe.",
        ),
        Finding(
            "work",
            well=unowned == 0,
            says=f"{unowned} rows owe a step that nobody would take up",
            remedy="This is a bug of ours: please report what v_unowned shows.",
        ),
    ]


async def _unowned(tx: Transaction) -> int:
    await tx.execute(f"SET LOCAL ROLE {Role.WORKER}")
    unowned: int = await tx.fetchval(_UNOWNED)
    return unowned


async def _doorbell(settings: Settings) -> Finding:
    async with wakeups.doorbell(str(settings.redis_url)) as bell:
        answers = await bell.answers()
    return Finding(
        "redis",
        well=answers,
        says="answers" if answers else "does not answer",
        remedy="Jobs still run, up to a second later each. Start it, or mend HOLDFAST_REDIS_URL.",
    )


async def _hub(settings: Settings) -> Finding:
    url = str(settings.hub_url).rstrip("/")
    try:
        async with httpx2.AsyncClient(timeout=5) as client:
            status = (await client.get(f"{url}/api/jobs/hardware")).status_code
    except httpx2.TransportError as error:
        says = f"{url}: {type(error).__name__}"
        return Finding("hub", well=False, says=says, remedy="Is HOLDFAST_HUB_URL right?")
    return Finding(
        "hub",
        well=status == HTTPStatus.OK,
        says=f"{url} answers {status}",
        remedy="Is HOLDFAST_HUB_URL right?",
    )
