"""`holdfast backup` and `holdfast restore`: the whole database, to a file and back.

The file is on this machine, or in a bucket of the Hub.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, cast

import anyio
from rich.console import Console

from schema.accounts.restored_subjects import mark_restored
from schema.accounts.vault import Vault
from schema.common.text import format_count
from schema.db import revisions
from schema.db.backup.connection import open_transaction
from schema.db.backup.dump import BackupSummary, dump_database
from schema.db.backup.format import BackupReader, BackupRefused
from schema.db.backup.load import load_database
from schema.db.database import Transaction
from schema.settings import Settings
from schema.tables import METADATA
from service.cli.backups.bucket_file import BucketError, BucketFile, BucketTransfer, open_transfer
from service.cli.options import COMMAND

STREAM: Final = "-"
"""The name of standard output, and of standard input."""
_OMITTED_TABLES: Final = frozenset({"call_window", "worker_heartbeat"})
"""What is worth nothing a minute later."""
_BUCKET_FORM: Final = "hf://buckets/OWNER/NAME/PATH of a Hugging Face bucket"
_SUFFIX: Final = ".backup"
_OWN_NAME: Final = re.compile(rf"holdfast-\d{{8}}T\d{{6}}Z{re.escape(_SUFFIX)}")


@dataclass(frozen=True, slots=True)
class _NewFile:
    """A file under a temporary name, beside its place."""

    stream: BinaryIO
    path: Path


def list_backup_tables() -> list[str]:
    """Return the tables of a backup, each after those that it refers to."""
    return [table.name for table in METADATA.sorted_tables if table.name not in _OMITTED_TABLES]


def add_backup_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `holdfast backup`."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help=f"a file, a folder, {_BUCKET_FORM}, or - for standard output",
    )
    parser.add_argument(
        "--keep", type=_parse_count, metavar="N", help="of a folder, delete all but the newest N"
    )


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `holdfast restore`."""
    parser.add_argument(
        "file", metavar="FILE", help=f"a file, {_BUCKET_FORM}, or - for standard input"
    )


def run_backup(options: argparse.Namespace, settings: Settings) -> None:
    """Write a backup; the file has its name only when it is whole.

    Raises:
        BackupRefused: it cannot be made.
    """
    with _explain_file_errors("No backup was made"):
        _write_backup(options, settings)


def _write_backup(options: argparse.Namespace, settings: Settings) -> None:
    bucket_file = BucketFile.parse(options.file)
    if options.keep is not None and (bucket_file or not _is_folder(options.file)):
        raise BackupRefused(
            f"No backup was made: --keep {options.keep} needs a folder, such as "
            f"`{COMMAND} backup backups/ --keep {options.keep}`."
        )
    if options.file == STREAM:
        summary = _dump(settings, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        _report(summary, "standard output")
        return
    if bucket_file is not None:
        with open_transfer(bucket_file, str(settings.hub_url)) as transfer:
            _report(_write_to_bucket(transfer, settings), str(bucket_file))
        return
    folder = Path(options.file) if _is_folder(options.file) else Path(options.file).parent
    folder.mkdir(parents=True, exist_ok=True)
    with _create_file(folder) as new:
        summary = _dump(settings, new.stream)
        new.stream.flush()
        os.fsync(new.stream.fileno())
        place = Path(options.file)
        if _is_folder(options.file):
            place = folder / f"holdfast-{summary.taken_at:%Y%m%dT%H%M%SZ}{_SUFFIX}"
        new.path.replace(place)
    _report(summary, str(place))
    if options.keep is not None:
        _delete_older(folder, options.keep)


def _write_to_bucket(transfer: BucketTransfer, settings: Settings) -> BackupSummary:
    with _create_file(transfer.folder) as new:
        summary = _dump(settings, new.stream)
        new.stream.flush()
        # An answer may be lost after the bucket has the file.
        with _explain_file_errors("No backup was confirmed"):
            transfer.upload(new.path)
    return summary


def run_restore(options: argparse.Namespace, settings: Settings) -> None:
    """Restore a backup into a database without rows; all of it, or nothing.

    Raises:
        BackupRefused: it cannot be restored; no row was changed.
    """
    with _explain_file_errors("Nothing was changed"):
        _read_backup(options, settings)


def _read_backup(options: argparse.Namespace, settings: Settings) -> None:
    vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
    url = str(settings.database_url)
    with _open_source(options.file, settings) as source:
        reader = BackupReader(source, vault.find_backup_key)
        if source.seekable():
            reader.verify()
            source.seek(0)
            reader = BackupReader(source, vault.find_backup_key)
        _prepare_database(url, reader)
        summary = anyio.run(_load, settings, reader)
    if reader.header.revision != revisions.head_revision():
        revisions.upgrade_to_revision(url)
    _console().print(
        f"Restored {_describe_rows(summary)}. Start the workers: they compare it with the Hub, and "
        f"launch nothing until that is done. `{COMMAND} reconcile` shows how far they are.",
        soft_wrap=True,
    )


def _dump(settings: Settings, sink: BinaryIO) -> BackupSummary:
    vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
    return anyio.run(
        partial(
            dump_database,
            str(settings.database_url),
            sink,
            tables=list_backup_tables(),
            key_mark=vault.key_marks[0],
            find_key=vault.find_backup_key,
        )
    )


async def _load(settings: Settings, reader: BackupReader) -> BackupSummary:
    return await load_database(
        str(settings.database_url),
        reader,
        tables=list_backup_tables(),
        settle_window=settings.settle,
        finish=partial(mark_restored, backup_at=reader.header.taken_at),
    )


def _prepare_database(url: str, reader: BackupReader) -> None:
    """Bring an empty database to the revision of the backup; check that another one has it."""
    header = reader.header
    if not revisions.is_known_revision(header.revision):
        raise BackupRefused(
            f"The backup is of revision {header.revision} (release {header.version}), which this "
            f"release does not know, so nothing was changed. Restore it with that release or a "
            f"newer one."
        )
    current = anyio.run(_read_revision, url)
    if current is None:
        revisions.upgrade_to_revision(url, header.revision)
    elif current != header.revision:
        raise BackupRefused(
            f"The database is at revision {current} and the backup at {header.revision}, so "
            f"nothing was changed. Restore into an empty database: create one, and name it in "
            f"HOLDFAST_DATABASE_URL."
        )


async def _read_revision(url: str) -> str | None:
    async with open_transaction(
        url, application_name="holdfast-restore", reads_only=True
    ) as connection:
        return await revisions.read_current_revision(cast("Transaction", connection))


def _is_folder(name: str) -> bool:
    return name != STREAM and (name.endswith("/") or Path(name).is_dir())


@contextmanager
def _explain_file_errors(consequence: str) -> Generator[None]:
    try:
        yield
    except BucketError as error:
        raise BackupRefused(f"{consequence}: {error}.") from error
    except OSError as error:
        name = "The file" if error.filename is None else error.filename
        raise BackupRefused(f"{consequence}: {name} cannot be used ({error.strerror}).") from error


@contextmanager
def _create_file(folder: Path) -> Generator[_NewFile]:
    """Open a file that only its owner may read; it is deleted unless it gets another name."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".holdfast-", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield _NewFile(stream, Path(name))
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _open_source(name: str, settings: Settings) -> Generator[BinaryIO]:
    if name == STREAM:
        yield sys.stdin.buffer
        return
    if (bucket_file := BucketFile.parse(name)) is not None:
        with (
            open_transfer(bucket_file, str(settings.hub_url)) as transfer,
            _create_file(transfer.folder) as new,
        ):
            transfer.download(new.path)
            with new.path.open("rb") as source:
                yield source
        return
    with Path(name).open("rb") as source:
        yield source


def _delete_older(folder: Path, keep: int) -> None:
    names = sorted(path for path in folder.iterdir() if _OWN_NAME.fullmatch(path.name))
    for path in names[: len(names) - keep]:
        path.unlink()


def _report(summary: BackupSummary, place: str) -> None:
    _console().print(f"Backed up {_describe_rows(summary)} to {place}.", soft_wrap=True)


def _describe_rows(summary: BackupSummary) -> str:
    rows = format_count(sum(summary.rows.values()), "row")
    return f"{rows} as of {summary.taken_at:%Y-%m-%d %H:%M:%S} UTC"


def _console() -> Console:
    # Standard output may be the backup itself.
    return Console(stderr=True, highlight=False, markup=False)


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        message = f"write a number from 1 on, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
