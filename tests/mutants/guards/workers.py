"""Guards of the processes: what is sent, believed and written."""

from typing import Final

from schema.common.process import shutdown, tls
from schema.hub import client as hub_client
from schema.jobs import progress as job_progress
from schema.jobs import run_launch, work_queues
from schema.messaging import wakeups
from service.jobs import launch as job_launch
from tests.mutants.mutant import mutants_in_file
from tests.schema.accounts import test_refused_tokens
from tests.schema.common.process import test_shutdown, test_tls
from tests.schema.jobs import test_progress
from tests.schema.messaging import test_wakeups
from tests.service.mcp.tools import test_jobs as test_tool_jobs
from tests.workers.attempts import test_progress as test_attempt_progress
from tests.workers.attempts import test_run as test_attempt_run
from tests.workers.batches import test_turns
from tests.workers.hub import test_client as test_hub_client
from tests.workers.hub import test_labels
from tests.workers.loops import (
    test_claim_jobs,
    test_clock_jumps,
    test_poll_groups,
    test_poll_runs,
    test_reconcile_runs,
    test_young_runs,
)
from tests.workers.spaces import test_client_attacks as test_space_attacks
from tests.workers.spaces import test_partial_values
from workers import context, timing
from workers.attempts import progress as attempt_progress
from workers.attempts import run as attempt_run
from workers.executors import hub_job
from workers.loops import claim_jobs, engine, poll_runs, reconcile_runs
from workers.spaces import client as space_client
from workers.spaces import partial_values

_ODD_VALUES: Final = """\
        except Exception:  # noqa: BLE001  # whatever a Space sends, the call goes on
            self._give_up()
"""
WORKER_GUARDS: Final = (
    *mutants_in_file(
        partial_values,
        test_partial_values,
        edits_of_what_is_unknown_are_not_shown=(
            "if self._has_given_up or data is None:",
            "if data is None:",
        ),
        edits_have_a_number=("if len(edits) > MAX_EDITS:", "if not edits:"),
        an_event_has_a_size=("if event_bytes > MAX_EVENT_BYTES:", "if not event_bytes:"),
        assembled_values_have_a_size=(
            "if self._received_bytes > 2 * MAX_EVENT_BYTES:",
            "if not self._received_bytes:",
        ),
        whole_values_are_no_edits=(
            "if self._values is None or not self._are_edits:",
            "if self._values is None:",
        ),
        an_odd_edit_does_not_end_the_call=(
            _ODD_VALUES + "\n    def render(",
            _ODD_VALUES.replace("Exception", "(LookupError, TypeError, ValueError)")
            + "\n    def render(",
        ),
        an_odd_value_does_not_end_the_call=(
            _ODD_VALUES + "            return None\n",
            _ODD_VALUES.replace("Exception", "LookupError") + "            return None\n",
        ),
        a_partial_result_has_no_secret=("redactor.redact(_to_text(value))", "_to_text(value)"),
    ),
    *mutants_in_file(
        space_client,
        test_space_attacks,
        no_number_of_an_event_ends_the_call=(
            "except (ValueError, OverflowError):",
            "except KeyError:",
        ),
        a_flood_of_events_leaves_turns=(
            "                await checkpoint()",
            "                pass",
        ),
    ),
    *mutants_in_file(
        attempt_progress,
        test_attempt_progress,
        a_message_has_no_secret=(
            "_redact_start(newest.message, self._redactor)",
            "newest.message",
        ),
        a_cut_message_has_no_part_of_a_secret=("[: -redactor.max_secret_chars]", ""),
    ),
    *mutants_in_file(
        job_progress,
        test_progress,
        no_event_repeats_what_was_yielded=("(progress - 'partial')", "(progress)"),
        what_was_yielded_is_cut=(
            "_MAX_PARTIAL_CHARS: Final = 2000",
            "_MAX_PARTIAL_CHARS: Final = 99999",
        ),
    ),
    *mutants_in_file(
        attempt_run,
        test_attempt_run,
        no_request_after_the_lease=("if boottime_seconds() - claimed_at >", "if -1 >"),
        late_call_is_looked_at_again=("claimed_at <= _MAX_UNCHECKED_SECONDS", "claimed_at < 1e9"),
        lost_answer_is_not_asked_for_again=(
            (
                "run_launch.mark_unconfirmed(\n"
                "        tx, run_id, cause=message, worker=worker.name,"
                " recheck_after=timedelta(seconds=1)\n"
            ),
            (
                "run_launch.mark_not_created(\n"
                "        tx, run_id, reason=None, message=message, worker=worker.name\n"
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
        attempt_run,
        test_refused_tokens,
        job_is_locked_before_its_token_is_refused=(
            "            # In the order of locks: job, run, subject.\n",
            (
                "            await credentials.mark_credential_refused(\n"
                "                tx, claim.subject_id, version=credential.version\n"
                "            )\n"
            ),
        ),
    ),
    *mutants_in_file(
        claim_jobs,
        test_turns,
        long_batch_hands_its_slot_back=("chosen.hand_back.set()", "pass"),
        slot_is_kept_for_its_own_subject=(
            "held_slots[subject] < held_slots[chosen.claim.subject_id]",
            "True",
        ),
    ),
    *mutants_in_file(
        run_launch,
        test_turns,
        turn_is_no_try=(
            "CASE WHEN :event = 'handed_back' THEN job.tries",
            "CASE WHEN false THEN 0",
        ),
    ),
    *mutants_in_file(
        job_launch,
        test_tool_jobs,
        lost_commit_is_asked_for_again=(
            "except InDoubt:\n            in_doubt = True",
            "except InDoubt:\n            raise",
        ),
    ),
    *mutants_in_file(
        shutdown,
        test_shutdown,
        overdue_process_is_ended=("os._exit(_OVERDUE_EXIT_CODE)", "return"),
        kernel_ends_what_cannot_report=("signal.setitimer(", "max("),
    ),
    # A clock that is set ends nothing.
    *mutants_in_file(
        reconcile_runs,
        test_clock_jumps,
        lapse_waits_after_a_jump=("[] if jumped else await", "await"),
    ),
    *mutants_in_file(
        engine,
        test_clock_jumps,
        deadline_allows_for_a_jump=("queue_deadline + lead", "queue_deadline"),
        retention_allows_for_a_jump=(
            "periods=periods.extend(worker.clock.lead)",
            "periods=periods",
        ),
    ),
    *mutants_in_file(
        timing,
        test_clock_jumps,
        lead_is_the_largest=("lead = max(lead, jumped)", "lead = jumped"),
        jump_is_forgotten=("if noticed_at < oldest:", "if False:"),
    ),
    # One request, found again by its nonce.
    *mutants_in_file(
        hub_job,
        test_labels,
        label_names_the_run=("RUN_LABEL: str(request.run_id),", ""),
        label_is_not_the_callers=(
            "**request.labels,\n            APP_LABEL: APP_NAME,",
            "APP_LABEL: APP_NAME,",
        ),
        environment_names_the_run=("            RUN_VARIABLE: str(request.run_id),\n", ""),
    ),
    *mutants_in_file(
        reconcile_runs,
        test_labels,
        another_environment_is_another_run=("run_id in (None, str(run.id))", "True"),
        copies_are_not_ours=("return not job.is_copy and", "return"),
    ),
    *mutants_in_file(
        reconcile_runs,
        test_reconcile_runs,
        young_run_is_not_called_gone_when_killed=(
            "None if is_too_young else derive_run_result(job)",
            "derive_run_result(job)",
        ),
    ),
    *mutants_in_file(
        poll_runs,
        test_young_runs,
        young_run_is_not_called_gone_when_listed=(
            "job is None and is_recently_created(worker, run)",
            "False",
        ),
    ),
    *mutants_in_file(
        poll_runs,
        test_poll_runs,
        strays_are_recorded=("    if not untracked:", "    if untracked:"),
    ),
    *mutants_in_file(
        poll_runs,
        test_poll_groups,
        a_listed_run_may_be_overdue=("        and not run.overdue\n        and", "        and"),
        a_log_is_followed_in_one_stage=(
            "        and not (follow_log and job.stage == _RUNNING_STAGE)\n",
            "",
        ),
        a_slow_group_keeps_no_other_waiting=("_FINISH_INTERVAL.total_seconds()", "3600"),
        done_groups_are_handed_back=(
            "        if done:\n            await",
            "        if False:\n            await",
        ),
    ),
    *mutants_in_file(
        work_queues,
        test_poll_groups,
        a_token_is_read_with_its_own_group=("ON lent.subject_id = due.subject_id", "ON true"),
        a_refused_token_is_not_read=(
            "lent.state = 'valid'\n   AND coalesce(lent.expires_at > now(), true)\n WHERE",
            "true WHERE",
        ),
    ),
    *mutants_in_file(
        hub_client,
        test_hub_client,
        redirect_is_not_followed=("follow_redirects=False", "follow_redirects=True"),
        server_error_is_ambiguous=("status >= HTTPStatus.INTERNAL_SERVER_ERROR or", ""),
        unclear_refusal_is_ambiguous=("or status in AMBIGUOUS_STATUSES", ""),
        silence_is_ambiguous=('raise HubAmbiguous(f"no answer', 'raise HubUnreachable(f"no answer'),
        token_stays_with_the_hub=("urlsplit(url)[:2] != urlsplit(self.url)[:2]", "False"),
    ),
    *mutants_in_file(
        wakeups,
        test_wakeups,
        idle_worker_is_told=(
            "            pipe.rpush(list_name(), kind or _RUN_ENTRY)\n",
            "",
        ),
        wakeup_outlasts_its_caller=(
            "                await sender.finish_sending()\n",
            "                pass\n",
        ),
        list_of_wakeups_stays_short=(
            "            pipe.ltrim(list_name(), -_MAX_LIST_LENGTH, -1)\n",
            "",
        ),
        worker_hears_again_after_a_bug=(
            "except Exception:  # the worker goes on",
            "except ImportError:  # the worker goes on",
        ),
    ),
    *mutants_in_file(
        claim_jobs,
        test_claim_jobs,
        woken_kind_is_claimed_first=(
            "key=lambda each: each.kind not in woken_kinds",
            "key=lambda _: 0",
        ),
        doubtful_claim_is_handed_back=(
            "                self._tasks.start_soon(self._hand_back, claim)\n",
            "                pass\n",
        ),
        cut_off_claim_is_handed_back=(
            "                await worker.hand_back(partial(_queue_again, worker, claim))\n",
            "                pass\n",
        ),
        call_without_token_is_not_begun=(" if claim.sealed_token is not None]", "]"),
        claim_that_is_lost_ends_no_loop=(
            "except Exception:  # it must not end the loops",
            "except ImportError:  # it must not end the loops",
        ),
    ),
    *mutants_in_file(
        context,
        test_claim_jobs,
        lost_hand_back_keeps_back_no_other=(
            "except Exception:  # one that cannot be written",
            "except ImportError:  # one that cannot be written",
        ),
    ),
    *mutants_in_file(
        hub_client,
        test_tls,
        authorities_are_loaded_once=("        verify=shared_ssl_context(),\n", ""),
    ),
    *mutants_in_file(
        tls,
        test_tls,
        servers_are_checked=("create_ssl_context()", "create_ssl_context(verify=False)"),
    ),
)
