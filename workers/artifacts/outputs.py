"""The declared outputs of a job: their bucket before the launch, their files after the end.

Before a job is launched there must be a private bucket for its outputs (`ensure_bucket`). After the
end of its run they are looked for there (`collect_outputs`). The Hub uploads them while and after
the run ends, so a run that completed without them is not ended yet, for a while. An output that is
still missing then was never written, and the job has failed, whatever its exit code.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
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
"""The stage of a run that is over and whose outputs are awaited."""
_MAX_FILES: Final = 1000
"""Files that are recorded for one job; the others are in its folder all the same."""
_MAX_LISTED_CHARS: Final = 2000
"""Characters for the names of missing outputs in a message."""
_MAX_PATH_CHARS: Final = 1000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class CollectedOutputs:
    """The result of a run after its outputs were looked for, and the files that are there."""

    run_result: RunResult
    files: tuple[NewJobFile, ...] = ()


def output_volume(folder: OutputFolder) -> Volume:
    """Return the volume that mounts the output folder in a job."""
    return Volume("bucket", folder.bucket, OUTPUTS_MOUNT_PATH, folder.path, read_only=False)


def output_environment() -> dict[str, str]:
    """Return the environment variables that tell a job where its output folder is mounted."""
    return {OUTPUTS_VARIABLE: OUTPUTS_MOUNT_PATH}


async def ensure_bucket(
    hub: HubJobsClient, request: ExecutionRequest, folder: OutputFolder, *, timeout: timedelta
) -> RetryLater | Rejected | TokenRejected | None:
    """Create the private bucket for a job if needed; return the outcome of the attempt on failure.

    None if the bucket is ready. Nothing has been launched in either case.
    """
    name = folder.bucket
    try:
        with anyio.fail_after(timeout.total_seconds()):
            bucket = await buckets.get_bucket(hub, name, request.token, timeout=timeout)
            if bucket is None:
                # The answer is ambiguous also if another worker has created it: look again.
                with suppress(HubAmbiguous):
                    await buckets.create_bucket(hub, name, request.token, timeout=timeout)
                bucket = await buckets.get_bucket(hub, name, request.token, timeout=timeout)
    except TimeoutError:
        return RetryLater(f"The bucket {name} was not ready within {format_duration(timeout)}.")
    except (HubUnreachable, HubAmbiguous) as error:
        return RetryLater(f"The bucket {name} could not be made ready: {error}")
    except HubRejected as rejection:
        return await _bucket_rejection(hub, request, name, rejection)
    if bucket is None:
        return RetryLater(f"The bucket {name} was created, and the Hub does not show it yet.")
    if not bucket.private:
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
    """Collect the outputs of a run that is over; none while they may still be uploaded.

    Of a run that did not complete, nothing more is uploaded, so its outputs are looked for once.

    Raises:
        HubRejected: the Hub does not accept the token, or asks us to wait.
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
        entries = await _find_outputs(worker.hub, run, folder, credential.token)
    except HubError as error:
        log.warning("outputs.unseen", run=str(run.id), error=str(error))
        # A rejection will not change. Without an answer the outputs may well be there: wait longer.
        is_rejection = isinstance(error, HubRejected)
        if is_rejection and not _is_final_rejection(error):
            raise
        patience = settings.outputs_patience if is_rejection else settings.run_slack
        message = (
            f"Whether its outputs are in {folder.uri()} could not be checked for "
            f"{format_duration(patience)}: {error}"
        )
        return _fail_if_overdue(worker, run, run_result, patience, message, ())
    job_files = _to_new_files(folder, entries, redactor)
    missing = _missing_outputs(run.outputs, folder, entries)
    if not missing:
        return CollectedOutputs(run_result, job_files)
    patience = settings.outputs_patience
    message = (
        f"Not in {folder.uri()} {format_duration(patience)} after it had completed: "
        f"{_list_names(missing)}"
    )
    return _fail_if_overdue(worker, run, run_result, patience, message, job_files)


async def collect_partial_outputs(
    worker: Worker, run: DueRun, credential: DecryptedToken, redactor: Redactor | None
) -> tuple[NewJobFile, ...]:
    """Collect the outputs that are there, of a run that did not complete, without waiting.

    Raises:
        HubRejected: the Hub does not accept the token, or asks us to wait.
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
    """Return how long to wait before outputs that may still be uploaded are looked for again."""
    return max(worker.settings.observe_min, worker.settings.outputs_patience / 20)


async def _find_outputs(
    hub: HubJobsClient, run: DueRun, folder: OutputFolder, token: Secret
) -> list[BucketEntry]:
    """Return the files of the declared outputs that are in the bucket."""
    entries: dict[str, BucketEntry] = {}
    try:
        paths = [folder.bucket_path(output) for output in run.outputs if not is_folder(output)]
        if paths:
            for entry in await buckets.get_files(hub, folder.bucket, paths, token):
                entries[entry.path] = entry
        for output in filter(is_folder, run.outputs):
            prefix = folder.bucket_path(output)
            for entry in await buckets.list_files_with_prefix(
                hub, folder.bucket, prefix, token, max_files=_MAX_FILES
            ):
                entries[entry.path] = entry
    except HubRejected as rejection:
        raise await _interpret_unauthorized(hub, run.namespace, token, rejection) from None
    return [entries[path] for path in sorted(entries)][:_MAX_FILES]


async def _bucket_rejection(
    hub: HubJobsClient, request: ExecutionRequest, bucket_name: str, rejection: HubRejected
) -> RetryLater | Rejected | TokenRejected:
    try:
        rejection = await _interpret_unauthorized(hub, request.namespace, request.token, rejection)
    except (HubUnreachable, HubAmbiguous) as error:
        return RetryLater(str(error))
    if rejection.status == HTTPStatus.UNAUTHORIZED:
        return TokenRejected(rejection.message)
    if rejection.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater(rejection.message, rejection.retry_after)
    is_forbidden = rejection.status == HTTPStatus.FORBIDDEN
    reason = Reason.MISSING_PERMISSION if is_forbidden else Reason.INVALID_REQUEST
    return Rejected(reason, f"The bucket {bucket_name} cannot be used: {rejection}")


async def _interpret_unauthorized(
    hub: HubJobsClient, namespace: str, token: Secret, rejection: HubRejected
) -> HubRejected:
    """Turn a 401 about a bucket into a 403 if the token itself is valid."""
    if rejection.status != HTTPStatus.UNAUTHORIZED:
        return rejection
    try:
        await buckets.expect_valid_token(hub, namespace, token)
    except HubRejected as token_rejection:
        if token_rejection.status == HTTPStatus.UNAUTHORIZED:
            return token_rejection
    return HubRejected(HTTPStatus.FORBIDDEN, rejection.message, None)


def _output_folder(run: DueRun) -> OutputFolder | None:
    # A surplus run of the job only waits to be killed; its outputs are not those of the job.
    if not run.outputs or run.outputs_in is None or run.origin is not RunOrigin.OURS:
        return None
    return OutputFolder.for_job(run.outputs_in, run.job_id)


def _is_final_rejection(error: HubError) -> bool:
    """Tell whether a rejection is about the bucket, and not about the token or the rate limit."""
    return isinstance(error, HubRejected) and error.status not in {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.TOO_MANY_REQUESTS,
    }


def _fail_if_overdue(
    worker: Worker,
    run: DueRun,
    run_result: RunResult,
    patience: timedelta,
    message: str,
    files: tuple[NewJobFile, ...],
) -> CollectedOutputs | None:
    """Fail a run that has been over for longer than `patience`, by the clock of the database."""
    if run.stage != COMPLETED_STAGE or run.age < patience + worker.clock.lead(patience):
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
        output_path = folder.bucket_path(output)
        if is_folder(output):
            is_there = any(path.startswith(output_path) for path in paths)
        else:
            is_there = output_path in paths
        if not is_there:
            missing.append(output)
    return missing


def _to_new_files(
    folder: OutputFolder, entries: Sequence[BucketEntry], redactor: Redactor | None
) -> tuple[NewJobFile, ...]:
    if redactor is None:  # a name may be a secret, and nobody knows the secrets any more
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
    listed = list[str]()
    for name in names:
        if sum(map(len, listed)) > _MAX_LISTED_CHARS:
            return f"{', '.join(listed)} and {len(names) - len(listed)} more."
        listed.append(name)
    return f"{', '.join(listed)}."
