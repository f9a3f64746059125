"""How do the outputs of a job come to be kept?

Before it is launched there must be a private bucket for them (`make_room`). When it is over they
are looked for there (`collect`): they are uploaded while and after it ends, so a job that completed
without them is not over yet, for a while. What is then still missing was never there, and the job
has failed, whatever its command said.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from mimetypes import guess_type
from typing import Final

import anyio
import structlog

from schema.accounts.credentials import Lent
from schema.accounts.vault import Secret
from schema.artifacts.files import NewFile
from schema.common.durations import say
from schema.db.storable import storable
from schema.jobs.run_end import Ending
from schema.jobs.run_tables import Origin
from schema.jobs.tables import JobState, Reason
from schema.jobs.work_queues import AgedRun
from schema.specs.outputs import MOUNTED_AT, VARIABLE, Folder, is_folder
from schema.specs.volumes import Volume
from workers.artifacts.redaction import Redactor
from workers.context import Worker
from workers.executor import Later, Order, Refused, TokenRefused
from workers.hub import buckets
from workers.hub.buckets import Entry
from workers.hub.client import Ambiguous, Answered4xx, Hub, HubError, Unreached

COMPLETED: Final = "COMPLETED"
"""The stage of a run that is over, while its outputs are waited for."""
_MOST: Final = 1000
"""Files that are kept of one job; what it left beyond them is in its folder all the same."""
_NAMED: Final = 2000
"""Characters in which what is missing is named."""
_LONGEST: Final = 1000
_UNAUTHORIZED, _TOO_MANY, _FORBIDDEN = 401, 429, 403

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Left:
    """How a run went, now that its outputs have been looked for, and those that are there."""

    ending: Ending
    files: tuple[NewFile, ...] = ()


def mount(folder: Folder) -> Volume:
    """Return how a job gets the folder it leaves its outputs in."""
    return Volume("bucket", folder.bucket, MOUNTED_AT, folder.path, read_only=False)


def told() -> dict[str, str]:
    """Return the variables that tell a job where that is."""
    return {VARIABLE: MOUNTED_AT}


async def make_room(
    hub: Hub, order: Order, folder: Folder, *, within: timedelta
) -> Later | Refused | TokenRefused | None:
    """See to it that there is a private bucket for a job; say what stands in the way, if so.

    Whatever that is, nothing has been launched.
    """
    name = folder.bucket
    try:
        with anyio.fail_after(within.total_seconds()):
            found = await buckets.bucket(hub, name, order.token, within=within)
            if found is None:
                # Unclear is also what somebody has made meanwhile: look again.
                with suppress(Ambiguous):
                    await buckets.create(hub, name, order.token, within=within)
                found = await buckets.bucket(hub, name, order.token, within=within)
    except TimeoutError:
        return Later(f"The bucket {name} was not ready within {say(within)}.")
    except (Unreached, Ambiguous) as error:
        return Later(f"The bucket {name} could not be made ready: {error}")
    except Answered4xx as no:
        return await _refused(hub, order, name, no)
    if found is None:
        return Later(f"The bucket {name} was made, and is not there yet.")
    if not found.private:
        return Refused(
            Reason.INVALID_REQUEST,
            f"The bucket {name} is public, so outputs are not written to it.",
        )
    return None


async def collect(
    worker: Worker, run: AgedRun, lent: Lent, ending: Ending, redactor: Redactor | None
) -> Left | None:
    """Look for the outputs of a run that is over; none while they may still be on their way.

    A run that did not complete has lost what was on its way: it is looked for once.

    Raises:
        Answered4xx: the Hub does not take the token, or wants to be left alone for a while.
    """
    folder = _folder_of(run)
    if folder is None:
        return Left(ending)
    if ending.state is not JobState.SUCCEEDED:
        return Left(ending, await salvage(worker, run, lent, redactor))
    settings = worker.settings
    try:
        found = await _look(worker.hub, run, folder, lent.token)
    except HubError as error:
        log.warning("outputs.unseen", run=str(run.id), error=str(error))
        # A no will stay one; without an answer they may well be there, and are worth more time.
        is_no = isinstance(error, Answered4xx)
        if is_no and not _is_final(error):
            raise
        patience = settings.outputs_patience if is_no else settings.run_slack
        seen = f"Whether its outputs are in {folder.uri()} could not be seen for {say(patience)}"
        return _given_up(run, ending, patience, f"{seen}: {error}", ())
    kept = _kept(folder, found, redactor)
    missing = _missing(run.outputs, folder, found)
    if not missing:
        return Left(ending, kept)
    patience = settings.outputs_patience
    seen = f"Not in {folder.uri()} {say(patience)} after it had completed"
    return _given_up(run, ending, patience, f"{seen}: {_named(missing)}", kept)


async def salvage(
    worker: Worker, run: AgedRun, lent: Lent, redactor: Redactor | None
) -> tuple[NewFile, ...]:
    """Return what there is of the outputs of a run that was not to complete, without waiting.

    Raises:
        Answered4xx: as above.
    """
    folder = _folder_of(run)
    if folder is None:
        return ()
    try:
        return _kept(folder, await _look(worker.hub, run, folder, lent.token), redactor)
    except HubError as error:
        if isinstance(error, Answered4xx) and not _is_final(error):
            raise
        log.warning("outputs.unseen", run=str(run.id), error=str(error))
        return ()


def look_again(worker: Worker) -> timedelta:
    """Say how long to wait for outputs that may be on their way."""
    return max(worker.settings.observe_min, worker.settings.outputs_patience / 20)


async def _look(hub: Hub, run: AgedRun, folder: Folder, token: Secret) -> list[Entry]:
    """Return what there is of the declared outputs."""
    found: dict[str, Entry] = {}
    try:
        alone = [folder.file(output) for output in run.outputs if not is_folder(output)]
        if alone:
            for entry in await buckets.files(hub, folder.bucket, alone, token):
                found[entry.path] = entry
        for output in filter(is_folder, run.outputs):
            prefix = folder.file(output)
            for entry in await buckets.files_under(hub, folder.bucket, prefix, token, most=_MOST):
                found[entry.path] = entry
    except Answered4xx as no:
        raise await _meant(hub, run.namespace, token, no) from None
    return [found[path] for path in sorted(found)][:_MOST]


async def _refused(
    hub: Hub, order: Order, name: str, no: Answered4xx
) -> Later | Refused | TokenRefused:
    try:
        no = await _meant(hub, order.namespace, order.token, no)
    except (Unreached, Ambiguous) as error:
        return Later(str(error))
    if no.status == _UNAUTHORIZED:
        return TokenRefused(no.message)
    if no.status == _TOO_MANY:
        return Later(no.message, no.retry_after)
    reason = Reason.MISSING_PERMISSION if no.status == _FORBIDDEN else Reason.INVALID_REQUEST
    return Refused(reason, f"The bucket {name} cannot be used: {no}")


async def _meant(hub: Hub, namespace: str, token: Secret, no: Answered4xx) -> Answered4xx:
    """Return what a refusal means: a 401 about a bucket need not be about the token itself."""
    if no.status != _UNAUTHORIZED:
        return no
    try:
        await buckets.expect_alive(hub, namespace, token)
    except Answered4xx as also:
        if also.status == _UNAUTHORIZED:
            return also
    return Answered4xx(_FORBIDDEN, no.message, None)


def _folder_of(run: AgedRun) -> Folder | None:
    # A second run of the same job is only there to be killed.
    if not run.outputs or run.outputs_in is None or run.origin is not Origin.OURS:
        return None
    return Folder.of(run.outputs_in, run.job_id)


def _is_final(no: HubError) -> bool:
    """Tell whether a refusal is about the bucket, and not about the token, or for now."""
    return isinstance(no, Answered4xx) and no.status not in {_UNAUTHORIZED, _TOO_MANY}


def _given_up(
    run: AgedRun, ending: Ending, patience: timedelta, why: str, kept: tuple[NewFile, ...]
) -> Left | None:
    """Fail a run that was seen to be over so long ago, by the clock of the database."""
    if run.stage != COMPLETED or run.age < patience:
        return None
    failed = replace(ending, state=JobState.FAILED, reason=Reason.OUTPUTS_MISSING, message=why)
    return Left(failed, kept)


def _missing(outputs: Sequence[str], folder: Folder, found: Sequence[Entry]) -> list[str]:
    paths = [entry.path for entry in found]
    missing = list[str]()
    for output in outputs:
        wanted = folder.file(output)
        inside = is_folder(output)
        if not any(path.startswith(wanted) if inside else path == wanted for path in paths):
            missing.append(output)
    return missing


def _kept(folder: Folder, found: Sequence[Entry], redactor: Redactor | None) -> tuple[NewFile, ...]:
    if redactor is None:  # nobody can know any more which name is a secret
        return ()
    return tuple(
        NewFile(
            name=redactor.text(storable(folder.name(entry.path))),
            size_bytes=entry.size,
            media_type=guess_type(entry.path)[0],
            revision=entry.xet_hash,
            uri=redactor.text(storable(folder.uri(entry.path))),
        )
        for entry in found
        if len(entry.path) <= _LONGEST
    )


def _named(missing: Sequence[str]) -> str:
    named = list[str]()
    for output in missing:
        if sum(map(len, named)) > _NAMED:
            return f"{', '.join(named)} and {len(missing) - len(named)} more."
        named.append(output)
    return f"{', '.join(named)}."
