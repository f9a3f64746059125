"""The guards of the processes: what is sent, believed and written down."""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_LAUNCH: Final = "tests/workers/attempts/test_run.py"
_NONCE: Final = "tests/workers/hub/test_labels.py"
_ATTEND: Final = "tests/workers/loops/test_reconcile_runs.py"
_OBSERVE: Final = "tests/workers/loops/test_poll_runs.py"
_YOUNG: Final = "tests/workers/loops/test_young_runs.py"
_HUB: Final = "tests/workers/hub/test_client.py"

WORKER_GUARDS: Final = (
    *mutants_in_file(
        "workers/attempts/run.py",
        _LAUNCH,
        no_request_after_the_lease=("if boottime_seconds() - claimed_at >", "if -1 >"),
        lost_answer_is_not_asked_for_again=(
            (
                "run_launch.mark_unconfirmed(\n"
                "                tx, run_id, cause=message, worker=worker_name,"
                " recheck_after=timedelta(seconds=1)\n"
            ),
            (
                "run_launch.mark_not_created(\n"
                "                tx, run_id, reason=None, message=message, worker=worker_name\n"
            ),
        ),
        held_up_call_is_queued_again=(
            'return RetryLater("It was cancelled,',
            'return Unknown("It was cancelled,',
        ),
        what_was_sent_is_handed_back_as_unclear=(
            "outcome = Unknown(_STOPPED_MESSAGE)",
            "outcome = outcome",
        ),
    ),
    *mutants_in_file(
        "service/jobs/launch.py",
        "tests/service/mcp/tools/test_jobs.py",
        lost_commit_is_asked_for_again=(
            "except InDoubt:\n            in_doubt = True",
            "except InDoubt:\n            raise",
        ),
    ),
    # One request, found again by its nonce.
    *mutants_in_file(
        "workers/executors/hub_job.py",
        _NONCE,
        label_names_the_run=("RUN_LABEL: str(request.run_id),", ""),
        label_is_not_the_callers=(
            "**request.labels,\n            APP_LABEL: APP_NAME,",
            "APP_LABEL: APP_NAME,",
        ),
        environment_names_the_run=("            RUN_VARIABLE: str(request.run_id),\n", ""),
    ),
    *mutants_in_file(
        "workers/loops/reconcile_runs.py",
        _NONCE,
        another_environment_is_another_run=("named in (None, str(run.id))", "True"),
        copies_are_not_ours=("return not copied and", "return"),
    ),
    *mutants_in_file(
        "workers/loops/reconcile_runs.py",
        _ATTEND,
        young_run_is_not_called_gone_when_killed=(
            "None if job is None and is_recently_created(worker, run) else derive_run_result(job)",
            "derive_run_result(job)",
        ),
    ),
    *mutants_in_file(
        "workers/loops/poll_runs.py",
        _YOUNG,
        young_run_is_not_called_gone_when_listed=(
            "job is None and is_recently_created(worker, run)",
            "False",
        ),
    ),
    *mutants_in_file(
        "workers/loops/poll_runs.py",
        _OBSERVE,
        strays_are_recorded=("    if not strays:", "    if strays:"),
    ),
    *mutants_in_file(
        "schema/hub/client.py",
        _HUB,
        redirect_is_not_followed=("follow_redirects=False", "follow_redirects=True"),
        server_error_is_ambiguous=("status >= HTTPStatus.INTERNAL_SERVER_ERROR or", ""),
        unclear_refusal_is_ambiguous=("or status in AMBIGUOUS_STATUSES", ""),
        silence_is_ambiguous=('raise HubAmbiguous(f"no answer', 'raise HubUnreachable(f"no answer'),
        token_stays_with_the_hub=("urlsplit(url)[:2] != urlsplit(self.url)[:2]", "False"),
    ),
)
