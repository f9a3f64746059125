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

from schema.accounts.credentials import DecryptedToken
from schema.accounts.vault import Secret
from schema.artifacts.files import NewJobFile
from schema.common.durations import format_duration
from schema.db.storable import to_storable
from schema.hub.client import HubAmbiguous, HubError, HubRejected, HubUnreachable
from schema.jobs.run_end import RunResult
from schema.jobs.run_tables import RunOrigin
from schema.jobs.tables import JobState, Reason
from schema.jobs.work_queues import DueRun
from schema.specs.outputs import OUTPUTS_MOUNT_PATH, OUTPUTS_VARIABLE, OutputFolder, is_folder
from schema.specs.volumes import Volume
from workers.artifacts.redaction import Redactor
from workers.context import Worker
from workers.executor import ExecutionRequest, Rejected, RetryLater, TokenRejected
from workers.hub import buckets
from workers.hub.buckets import BucketEntry
from workers.hub.client import HubJobsClient

COMPLETED_STAGE: Final = "COMPLETED"
"""The stage of a run that is over, while its outputs are waited for."""
_MAX_FILES: Final = 1000
"""Files that are kept of one job; what it left beyond them is in its folder all the same."""
_MAX_LISTED_CHARS: Final = 2000
"""Characters in which what is missing is named."""
_MAX_PATH_CHARS: Final = 1000
_UNAUTHORIZED, _TOO_MANY, _FORBIDDEN = 401, 429, 403

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class CollectedOutputs:
    """How a run went, now that its outputs have been looked for, and those that are there."""

    run_result: RunResult
    files: tuple[NewJobFile, ...] = ()


def output_volume(folder: OutputFolder) -> Volume:
    """Return how a job gets the folder it leaves its outputs in."""
    return Volume("bucket", folder.bucket, OUTPUTS_MOUNT_PATH, folder.path, read_only=False)


def output_environment() -> dict[str, str]:
    """Return the variables that tell a job where that is."""
    return {OUTPUTS_VARIABLE: OUTPUTS_MOUNT_PATH}


async def ensure_bucket(
    hub: HubJobsClient, request: ExecutionRequest, folder: OutputFolder, *, timeout: timedelta
) -> RetryLater | Rejected | TokenRejected | None:
    """See to it that there is a private bucket for a job; say what stands in the way, if so.

    Whatever that is, nothing has been launched.
    """
    name = folder.bucket
    try:
        with anyio.fail_after(timeout.total_seconds()):
            found = await buckets.get_bucket(hub, name, request.token, timeout=timeout)
            if found is None:
                # Unclear is also what somebody has made meanwhile: look again.
                with suppress(HubAmbiguous):
                    await buckets.create_bucket(hub, name, request.token, timeout=timeout)
                found = await buckets.get_bucket(hub, name, request.token, timeout=timeout)
    except TimeoutError:
        return RetryLater(f"The bucket {name} was not ready within {format_duration(timeout)}.")
    except (HubUnreachable, HubAmbiguous) as error:
        return RetryLater(f"The bucket {name} could not be made ready: {error}")
    except HubRejected as no:
        return await _bucket_rejection(hub, request, name, no)
    if found is None:
        return RetryLater(f"The bucket {name} was made, and is not there yet.")
    if not found.private:
        return Rejected(
            Reason.INVALID_REQUEST,
            f"The bucket {name} is public, so outputs are not written to it.",
        )
    return None


async def collect_outputs(
    worker: Worker,
    run: DueRun,
    credential: DecryptedToken,
    run_result: RunResult,
    redactor: Redactor | None,
) -> CollectedOutputs | None:
    """Look for the outputs of a run that is over; none while they may still be on their way.

    A run that did not complete has lost what was on its way: it is looked for once.

    Raises:
        Answered4xx: the Hub does not take the token, or wants to be left alone for a while.
    """
    folder = _output_folder(run)
    if folder is None:
        return CollectedOutputs(run_result)
    if run_result.state is not JobState.SUCCEEDED:
        return CollectedOutputs(
            run_result, await collect_partial_outputs(worker, run, credential, redactor)
        )
    settings = worker.settings
    try:
        found = await _find_outputs(worker.hub, run, folder, credential.token)
    except HubError as error:
        log.warning("outputs.unseen", run=str(run.id), error=str(error))
        # A no will stay one; without an answer they may well be there, and are worth more time.
        is_no = isinstance(error, HubRejected)
        if is_no and not _is_final_rejection(error):
            raise
        patience = settings.outputs_patience if is_no else settings.run_slack
        seen = (
            f"Whether its outputs are in {folder.uri()} could not be seen for "
            f"{format_duration(patience)}"
        )
        return _fail_if_overdue(run, run_result, patience, f"{seen}: {error}", ())
    kept = _to_new_files(folder, found, redactor)
    missing = _missing_outputs(run.outputs, folder, found)
    if not missing:
        return CollectedOutputs(run_result, kept)
    patience = settings.outputs_patience
    seen = f"Not in {folder.uri()} {format_duration(patience)} after it had completed"
    return _fail_if_overdue(run, run_result, patience, f"{seen}: {_list_names(missing)}", kept)


async def collect_partial_outputs(
    worker: Worker, run: DueRun, credential: DecryptedToken, redactor: Redactor | None
) -> tuple[NewJobFile, ...]:
    """Return what there is of the outputs of a run that was not to complete, without waiting.

    Raises:
        Answered4xx: as above.
    """
    folder = _output_folder(run)
    if folder is None:
        return ()
    try:
        return _to_new_files(
            folder, await _find_outputs(worker.hub, run, folder, credential.token), redactor
        )
    except HubError as error:
        if isinstance(error, HubRejected) and not _is_final_rejection(error):
            raise
        log.warning("outputs.unseen", run=str(run.id), error=str(error))
        return ()


def recheck_interval(worker: Worker) -> timedelta:
    """Say how long to wait for outputs that may be on their way."""
    return max(worker.settings.observe_min, worker.settings.outputs_patience / 20)


async def _find_outputs(
    hub: HubJobsClient, run: DueRun, folder: OutputFolder, token: Secret
) -> list[BucketEntry]:
    """Return what there is of the declared outputs."""
    found: dict[str, BucketEntry] = {}
    try:
        alone = [folder.bucket_path(output) for output in run.outputs if not is_folder(output)]
        if alone:
            for entry in await buckets.get_files(hub, folder.bucket, alone, token):
                found[entry.path] = entry
        for output in filter(is_folder, run.outputs):
            prefix = folder.bucket_path(output)
            for entry in await buckets.list_files_with_prefix(
                hub, folder.bucket, prefix, token, max_files=_MAX_FILES
            ):
                found[entry.path] = entry
    except HubRejected as no:
        raise await _interpret_unauthorized(hub, run.namespace, token, no) from None
    return [found[path] for path in sorted(found)][:_MAX_FILES]


async def _bucket_rejection(
    hub: HubJobsClient, request: ExecutionRequest, bucket_name: str, rejection: HubRejected
) -> RetryLater | Rejected | TokenRejected:
    try:
        rejection = await _interpret_unauthorized(hub, request.namespace, request.token, rejection)
    except (HubUnreachable, HubAmbiguous) as error:
        return RetryLater(str(error))
    if rejection.status == _UNAUTHORIZED:
        return TokenRejected(rejection.message)
    if rejection.status == _TOO_MANY:
        return RetryLater(rejection.message, rejection.retry_after)
    reason = Reason.MISSING_PERMISSION if rejection.status == _FORBIDDEN else Reason.INVALID_REQUEST
    return Rejected(reason, f"The bucket {bucket_name} cannot be used: {rejection}")


async def _interpret_unauthorized(
    hub: HubJobsClient, namespace: str, token: Secret, rejection: HubRejected
) -> HubRejected:
    """Return what a refusal means: a 401 about a bucket need not be about the token itself."""
    if rejection.status != _UNAUTHORIZED:
        return rejection
    try:
        await buckets.expect_valid_token(hub, namespace, token)
    except HubRejected as also:
        if also.status == _UNAUTHORIZED:
            return also
    return HubRejected(_FORBIDDEN, rejection.message, None)


def _output_folder(run: DueRun) -> OutputFolder | None:
    # A second run of the same job is only there to be killed.
    if not run.outputs or run.outputs_in is None or run.origin is not RunOrigin.OURS:
        return None
    return OutputFolder.for_job(run.outputs_in, run.job_id)


def _is_final_rejection(error: HubError) -> bool:
    """Tell whether a refusal is about the bucket, and not about the token, or for now."""
    return isinstance(error, HubRejected) and error.status not in {_UNAUTHORIZED, _TOO_MANY}


def _fail_if_overdue(
    run: DueRun,
    run_result: RunResult,
    patience: timedelta,
    message: str,
    files: tuple[NewJobFile, ...],
) -> CollectedOutputs | None:
    """Fail a run that was seen to be over so long ago, by the clock of the database."""
    if run.stage != COMPLETED_STAGE or run.age < patience:
        return None
    failed = replace(
        run_result, state=JobState.FAILED, reason=Reason.OUTPUTS_MISSING, message=message
    )
    return CollectedOutputs(failed, files)


def _missing_outputs(
    outputs: Sequence[str], folder: OutputFolder, entries: Sequence[BucketEntry]
) -> list[str]:
    paths = [entry.path for entry in entries]
    missing = list[str]()
    for output in outputs:
        wanted = folder.bucket_path(output)
        inside = is_folder(output)
        if not any(path.startswith(wanted) if inside else path == wanted for path in paths):
            missing.append(output)
    return missing


def _to_new_files(
    folder: OutputFolder, entries: Sequence[BucketEntry], redactor: Redactor | None
) -> tuple[NewJobFile, ...]:
    if redactor is None:  # nobody can know any more which name is a secret
        return ()
    return tuple(
        NewJobFile(
            name=redactor.redact(to_storable(folder.output_name(entry.path))),
            size_bytes=entry.size,
            media_type=guess_type(entry.path)[0],
            revision=entry.xet_hash,
            uri=redactor.redact(to_storable(folder.uri(entry.path))),
        )
        for entry in entries
        if len(entry.path) <= _MAX_PATH_CHARS
    )


def _list_names(names: Sequence[str]) -> str:
    named = list[str]()
    for output in names:
        if sum(map(len, named)) > _MAX_LISTED_CHARS:
            return f"{', '.join(named)} and {len(names) - len(named)} more."
        named.append(output)
    return f"{', '.join(named)}."
