"""`holdfast export` and `holdfast forget`: what is stored of a person, written out or deleted."""

import argparse
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile

import anyio
from rich.console import Console

from schema.accounts import audit, personal_data
from schema.accounts.audit import AuditAction
from schema.accounts.operator_actions import SubjectLimits
from schema.accounts.row_security import DatabaseRole, open_worker_database
from schema.common.errors import HoldfastError
from schema.common.text import format_count
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.retention import erasure
from schema.jobs.retention.erasure import OpenWork
from schema.settings import Settings
from service.cli.options import COMMAND
from service.cli.subjects import find_subject

_STOP_TIMEOUT: Final = timedelta(minutes=10)
"""How long `forget --cancel` tries until nothing runs any more."""
_STOP_CHECK_INTERVAL: Final = timedelta(seconds=1)


class ExportRefused(HoldfastError):
    """The file of an export cannot be written."""


class ForgetRefused(HoldfastError):
    """A person is not forgotten: something of theirs may still run, or nobody confirmed it."""


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export` to its parser."""
    parser.add_argument("subject", metavar="NAME_OR_ID")
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="the new archive (ID.zip unless given)"
    )


def add_forget_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `forget` to its parser."""
    parser.add_argument("subject", metavar="NAME_OR_ID")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--cancel", action="store_true", help="cancel what is unfinished, and wait until it stops"
    )


async def export_subject(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    """Write an archive with all that is stored of a person.

    Raises:
        NoSuchSubject: the name or id names nobody, or several.
        ExportRefused: the file is there already, or cannot be written.
    """
    async with (
        open_worker_database(
            str(settings.database_url),
            application_name="holdfast-export",
            pooled=settings.pooled,
        ) as database,
        database.transaction() as tx,
    ):
        subject = await find_subject(tx, options.subject)
        await audit.write_audit_entry(tx, AuditAction.SUBJECT_EXPORTED, subject_id=subject.id)
    path: Path = options.file or Path(f"{subject.id}.zip")
    counts: dict[str, int] = {}
    try:
        with _create_archive(path) as archive:
            async with Database(
                str(settings.database_url),
                application_name="holdfast-export",
                role=DatabaseRole.TENANT,
                max_connections=1,
                pooled=settings.pooled,
            ) as database:
                await _write_archive(archive, database, subject.id, counts)
    except OSError as error:
        raise ExportRefused(f"{path} cannot be written: {error.strerror or error}.") from None
    rows = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    console.print(f"{path} has what is stored of {subject.name}: {rows}.", soft_wrap=True)


async def _write_archive(
    archive: ZipFile, database: Database, subject_id: str, counts: dict[str, int]
) -> None:
    member = None
    async for name, lines in personal_data.read_personal_data(database, subject_id):
        if name not in counts:
            if member is not None:
                member.close()
            member = archive.open(f"{name}.jsonl", "w", force_zip64=True)
            counts[name] = 0
        assert member is not None  # noqa: S101  # opened with the first page
        member.writelines(f"{line}\n".encode() for line in lines)
        counts[name] += len(lines)
    if member is not None:
        member.close()


@contextmanager
def _create_archive(path: Path) -> Generator[ZipFile]:
    """Yield an archive that only its owner can read; it has its name once it is complete."""
    if path.exists():
        raise ExportRefused(f"{path} is there already. Name another file.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        draft.touch(mode=0o600)
        with ZipFile(draft, "w", ZIP_DEFLATED) as archive:
            yield archive
        path.hardlink_to(draft)  # never replaces a file that is there by now


async def forget_subject(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    """Delete all that is stored of a person.

    Raises:
        NoSuchSubject: the name or id names nobody, or several.
        ForgetRefused: something of theirs may still run, or nobody confirmed it.
    """
    async with open_worker_database(
        str(settings.database_url), application_name="holdfast-forget", pooled=settings.pooled
    ) as database:
        async with database.transaction() as tx:
            subject = await find_subject(tx, options.subject)
            work = await erasure.read_open_work(tx, subject.id)
        if work.is_unreconciled or not (work.is_none or options.cancel):
            raise ForgetRefused(_describe_open_work(work))
        if not options.yes:
            _confirm(console, subject)
        if options.cancel:
            await _stop_all(database, subject.id, console)
        await _erase(database, subject.id)
    console.print(
        f"{subject.name} is forgotten. Backups of the database still have their rows.",
        soft_wrap=True,
    )


def _confirm(console: Console, subject: SubjectLimits) -> None:
    answer = console.input(
        f"This deletes all jobs, results, schedules and workspaces of {subject.name} "
        f"({subject.id}), for good. Type the name to go on: "
    )
    if answer.strip() != subject.name:
        raise ForgetRefused("That is not the name. Nothing was deleted.")


async def _stop_all(database: Database, subject_id: str, console: Console) -> None:
    """Cancel what is unfinished, also what is launched meanwhile, until every run is over.

    Raises:
        ForgetRefused: that takes too long.
    """
    async with database.transaction() as tx:
        await erasure.delete_schedules(tx, subject_id)
    unfinished_jobs = 0
    is_told = False
    with anyio.move_on_after(_STOP_TIMEOUT.total_seconds()):
        while True:
            await _cancel_unfinished_jobs(database, subject_id)
            async with database.transaction() as tx:
                work = await erasure.read_open_work(tx, subject_id)
            unfinished_jobs = work.unfinished_jobs
            if not (unfinished_jobs or work.open_runs):
                return
            if not is_told and work.open_runs:
                is_told = True
                console.print(
                    f"{format_count(work.open_runs, 'run')} of theirs may still be alive. Waiting "
                    "until the workers see the end of them; Ctrl-C is safe."
                )
            await anyio.sleep(_STOP_CHECK_INTERVAL.total_seconds())
    if unfinished_jobs:
        raise ForgetRefused(
            "A client of theirs goes on launching jobs, so nothing was deleted but their "
            "schedules. Ask them to stop it, then repeat the command."
        )
    raise ForgetRefused(
        "Something of theirs may still run at Hugging Face, so nothing was deleted but their "
        f"schedules. Is a worker running? `{COMMAND} status` says so. Then repeat the command."
    )


async def _cancel_unfinished_jobs(database: Database, subject_id: str) -> None:
    async with database.transaction() as tx:
        job_ids = await erasure.list_unfinished_jobs(tx, subject_id)
    for job_id in job_ids:
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job_id, subject_id=subject_id)


async def _erase(database: Database, subject_id: str) -> None:
    has_more = True
    while has_more:
        async with database.transaction() as tx:
            work = await erasure.read_open_work(tx, subject_id)
            if not work.is_none:
                raise ForgetRefused(_describe_open_work(work))
            has_more = await erasure.erase_step(tx, subject_id)


def _describe_open_work(work: OpenWork) -> str:
    if work.is_unreconciled:
        return (
            "Their rows came from a backup, and have not been compared with Hugging Face: runs of "
            f"theirs may be unknown here. `{COMMAND} reconcile` says more."
        )
    if work.unfinished_jobs:
        jobs = format_count(work.unfinished_jobs, "unfinished job")
        return f"They have {jobs}. Add --cancel to cancel all, and to wait until nothing runs."
    if work.open_runs:
        return (
            "Something of theirs may still run at Hugging Face. Add --cancel to wait until it has "
            "stopped."
        )
    return (
        "A launch of theirs was never confirmed, and is searched for until "
        f"{work.watched_until:%Y-%m-%d %H:%M} UTC, so that nothing runs unnoticed. Repeat the "
        "command then."
    )
