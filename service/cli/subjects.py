"""`holdfast subject`: what an operator sees of people, and does to one of them."""

import argparse
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from schema.accounts import operator_actions
from schema.accounts.operator_actions import SubjectLimits
from schema.accounts.row_security import open_worker_database
from schema.accounts.tables import Hold
from schema.common.errors import HoldfastError
from schema.common.name_matching import did_you_mean
from schema.common.text import format_count
from schema.db.database import Transaction
from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.cli.options import COMMAND

_LISTED_SUBJECTS: Final = 50
_MAX_LIMIT: Final = 100_000
_DEFAULT: Final = "default"


class NoSuchSubject(HoldfastError):
    """The name or id names nobody, or several."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of the command to its parser."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="show people, those with the most unfinished jobs first")
    for name, summary in (
        ("show", "show one person"),
        ("limit", "set how many jobs of a person may run at a time"),
        ("hold", "launch nothing of a person any more; what runs goes on"),
        ("release", "end a hold"),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        action.add_argument("subject", metavar="NAME_OR_ID")
        if name == "limit":
            action.add_argument(
                "max_active",
                metavar="JOBS",
                type=_parse_limit,
                help=f"a number, or {_DEFAULT} for that of the settings",
            )
            action.add_argument(
                "--kind",
                metavar="KIND",
                type=_parse_kind,
                help=f"limit jobs of one kind only: {', '.join(JobKind)}",
            )


async def run_action(options: argparse.Namespace, settings: Settings, console: Console) -> None:
    """Carry out an action, and show whom it was about.

    Raises:
        NoSuchSubject: the name or id names nobody, or several.
    """
    async with (
        open_worker_database(
            str(settings.database_url),
            application_name="holdfast-subject",
            pooled=settings.pooled,
        ) as database,
        database.transaction() as tx,
    ):
        if options.action == "list":
            console.print(_format_table(await _list(tx)))
            return
        subject = await find_subject(tx, options.subject)
        subject, sentence = await _act(tx, options, subject)
    console.print(_format_table([subject]))
    if sentence:
        console.print(sentence, soft_wrap=True)  # so that a command can be copied whole


async def _list(tx: Transaction) -> list[SubjectLimits]:
    return await operator_actions.list_subjects(tx, limit=_LISTED_SUBJECTS)


async def find_subject(tx: Transaction, id_or_name: str) -> SubjectLimits:
    """Return the subject that an operator means.

    Raises:
        NoSuchSubject: the name or id names nobody, or several.
    """
    match await operator_actions.find_subjects(tx, id_or_name):
        case [subject]:
            return subject
        case []:
            raise NoSuchSubject(
                f"Nobody here has the name or id {id_or_name}; `{COMMAND} subject list` shows "
                "who has called."
            )
        case several:
            ids = ", ".join(subject.id for subject in several)
            raise NoSuchSubject(f"Several have the name {id_or_name}; give one of the ids {ids}.")


async def _act(
    tx: Transaction, options: argparse.Namespace, subject: SubjectLimits
) -> tuple[SubjectLimits, str]:
    """Carry out an action on a subject; return them as they are then, and what to say of it."""
    match options.action:
        case "limit":
            changed = await operator_actions.limit_subject(
                tx, subject.id, max_active=options.max_active, kind=options.kind
            )
            subject = changed or subject
            return subject, _describe_limit(subject, options.kind)
        case "hold":
            changed = await operator_actions.hold_subject(tx, subject.id)
            if changed is None:
                return subject, "Nothing was changed, for they were held already."
            return changed, (
                "Nothing of theirs is launched any more. What runs goes on, is watched, and can be "
                f"cancelled. `{COMMAND} subject release {subject.id}` ends the hold."
            )
        case "release":
            changed = await operator_actions.release_subject(tx, subject.id)
            if changed is None:
                return subject, "Nothing was changed, for there is no hold of an operator."
            return changed, _describe_release(changed)
        case _:
            return subject, ""


def _describe_release(subject: SubjectLimits) -> str:
    if subject.hold is Hold.CREDENTIALS:
        return "Their jobs now wait for a token: Hugging Face refused the last one."
    return f"{format_count(subject.queued, 'queued job')} can be launched now."


def _describe_limit(subject: SubjectLimits, kind: str | None) -> str:
    if kind is not None:
        limit = subject.max_active_by_kind.get(kind)
        if limit is None:
            return f"There is no limit of their jobs of kind {kind} alone."
        return f"Of kind {kind}, {format_count(limit, 'job')} of theirs may run at a time."
    if subject.active <= subject.max_active:
        return ""
    return (
        f"{format_count(subject.active, 'job')} of theirs run and go on; nothing is launched until "
        f"fewer than {subject.max_active} do."
    )


def _format_table(subjects: Iterable[SubjectLimits]) -> Table:
    table = Table("name", "id", "active", "limit", "of kinds", "queued", "hold")
    for subject in subjects:
        limits = sorted(subject.max_active_by_kind.items())
        table.add_row(
            subject.name,
            subject.id,
            str(subject.active),
            str(subject.max_active),
            "\n".join(f"{kind} {limit}" for kind, limit in limits),
            str(subject.queued),
            subject.hold or "",
        )
    return table


def _parse_limit(text: str) -> int | None:
    if text == _DEFAULT:
        return None
    if not text.isdecimal() or int(text) > _MAX_LIMIT:
        message = f"write a number of jobs from 0 to {_MAX_LIMIT:,}, or {_DEFAULT}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _parse_kind(text: str) -> str:
    kinds = [str(kind) for kind in JobKind]
    if text not in kinds:
        message = f"write one of {', '.join(kinds)}, not {text!r}. {did_you_mean(text, kinds)}"
        raise argparse.ArgumentTypeError(message.strip())
    return text
