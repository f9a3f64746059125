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
        no_request_after_the_lease=("if elapsed() - claimed_at >", "if -1 >"),
        lost_answer_is_not_asked_for_again=(
            "run_launch.doubt(tx, run_id, why=why, worker=by, look_after=timedelta(seconds=1))",
            "run_launch.reject(tx, run_id, reason=None, message=why, worker=by)",
        ),
        held_up_call_is_queued_again=("None if begun else Later(", "None if begun else Unclear("),
        what_was_sent_is_handed_back_as_unclear=("known = Unclear(_STOPPED)", "known = known"),
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
        label_names_the_run=("RUN_LABEL: str(order.run_id),", ""),
        label_is_not_the_callers=(
            "**order.labels,\n            APP_LABEL: APP,",
            "APP_LABEL: APP,",
        ),
        environment_names_the_run=("            RUN_VARIABLE: str(order.run_id),\n", ""),
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
            "None if job is None and is_young(worker, run) else verdict(job)",
            "verdict(job)",
        ),
    ),
    *mutants_in_file(
        "workers/loops/poll_runs.py",
        _YOUNG,
        young_run_is_not_called_gone_when_listed=("job is None and is_young(worker, run)", "False"),
    ),
    *mutants_in_file(
        "workers/loops/poll_runs.py",
        _OBSERVE,
        strays_are_recorded=("    if not strays:", "    if strays:"),
    ),
    *mutants_in_file(
        "workers/hub/client.py",
        _HUB,
        redirect_is_not_followed=("follow_redirects=False", "follow_redirects=True"),
        server_error_is_ambiguous=("response.status_code >= SERVER_ERROR or", ""),
        unclear_refusal_is_ambiguous=("or response.status_code in UNCLEAR_4XX", ""),
        silence_is_ambiguous=('raise Ambiguous(f"no answer', 'raise Unreached(f"no answer'),
        token_stays_with_the_hub=("urlsplit(url)[:2] != urlsplit(self.url)[:2]", "False"),
    ),
)
