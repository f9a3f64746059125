"""Guards of webhooks and of the inbox: where they go, who believes them, and what is lost."""

from typing import Final

from schema.hub import url_fetcher
from schema.jobs.monitoring import changes
from schema.specs.inputs import webhook_url
from schema.workspaces import webhook_queue, webhooks
from service.jobs import launch
from service.mcp.tools import wait_for_jobs
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.mutants.row_security import shows_all_of
from tests.schema.accounts import test_row_security
from tests.schema.jobs import test_changes
from tests.service.mcp.tools import test_unseen_jobs, test_webhooks
from tests.workers.inputs import test_webhook_attacks
from tests.workers.loops import test_send_webhooks
from workers.loops import engine, send_webhooks, webhook_messages

WEBHOOK_GUARDS: Final = (
    *mutants_in_file(
        webhook_url,
        test_webhook_attacks,
        private_origin_is_one_of_the_operators=('private["origin"] in allowed_origins', "True"),
        webhook_goes_to_public_hosts=(
            'public = PublicUrl.parse(url if len(url) <= MAX_WEBHOOK_URL_CHARS else "")',
            'public = PublicUrl(url[8:].partition("/")[0], "/")',
        ),
    ),
    *mutants_in_file(
        url_fetcher,
        test_webhook_attacks,
        webhook_addresses_are_checked=(
            "_PinnedNetworkBackend(self._resolve, self._dial) if url.is_public else AnyIOBackend()",
            "AnyIOBackend()",
        ),
        every_address_of_a_webhook_is_public=(
            "not all(is_public_ip(address) for address in addresses)",
            "not any(is_public_ip(address) for address in addresses)",
        ),
    ),
    *mutants_in_file(
        send_webhooks,
        test_send_webhooks,
        withdrawn_origin_gets_nothing=(
            "WebhookUrl.parse(opened[0][0], settings.webhook_origins)",
            'WebhookUrl.parse(opened[0][0], [opened[0][0].partition("/hook")[0]])',
        ),
        redirect_is_no_delivery=(
            "HTTPStatus(200) <= answer.status < HTTPStatus.MULTIPLE_CHOICES",
            "HTTPStatus(200) <= answer.status < HTTPStatus.BAD_REQUEST",
        ),
        gone_receiver_is_disabled=("answer.status == HTTPStatus.GONE", "False"),
        receiver_says_when=(
            "pause=parse_pause(answer.retry_after, now=attempt.attempted_at),",
            "",
        ),
    ),
    *mutants_in_file(
        engine,
        test_send_webhooks,
        sweep_finds_due_webhooks=("        (due.webhooks, worker.events.send),\n", ""),
    ),
    *mutants_in_file(
        webhook_messages,
        test_send_webhooks,
        id_of_a_webhook_is_that_of_its_end=(
            'return f"end_{suffix}"',
            'return f"end_{suffix}{attempt.attempts}"',
        ),
        signature_covers_the_time=(
            "(message.encode(), timestamp.encode(), body)",
            "(message.encode(), body)",
        ),
        restored_end_says_so=("if attempt.is_restored:", "if False:"),
    ),
    *mutants_in_file(
        webhook_queue,
        test_send_webhooks,
        few_targets_of_one_subject=(
            "WHERE due.place <= :per_subject",
            "WHERE due.place <= :per_subject + 99",
        ),
        targets_under_way_count=("               + coalesce(busy.targets, 0) AS place", "AS place"),
        dead_target_rests=(
            '           due_at = now() + {_PAUSE_SQL.format("(target.failures + 1)")}\n',
            "           due_at = now()\n",
        ),
        untried_webhook_is_tried=("                       AND attempts > 0\n", ""),
        old_webhook_is_given_up=(
            "                       AND ended_at < now() - :give_up_after::interval))",
            "                       AND ended_at < now() - :give_up_after::interval * 99))",
        ),
        expired_secret_does_not_sign=(
            "                AND coalesce(secret.expires_at > now(), true)\n",
            "",
        ),
    ),
    *mutants_in_file(
        webhooks,
        test_webhooks,
        test_send_webhooks,
        rotation_is_of_ones_own_target=(
            "WHERE subject_id = $1 AND url_sha = $2 FOR NO KEY UPDATE",
            "WHERE $1::text <> '' AND url_sha = $2 FOR NO KEY UPDATE",
        ),
        second_rotation_ends_the_first_secret=(
            "CASE WHEN expires_at IS NULL THEN now() + $2 ELSE now() END",
            "coalesce(expires_at, now() + $2)",
        ),
        named_target_is_enabled=(
            "       disabled_at = NULL\n",
            "       disabled_at = webhook_target.disabled_at\n",
        ),
    ),
    *mutants_in_file(
        launch,
        test_webhooks,
        earlier_job_stays_with_its_webhook=(
            "request.webhook is not None and job.id == job_id:",
            "request.webhook is not None:",
        ),
        known_secret_is_not_shown=(
            "return webhook.secret if target_id == webhook.target_id else None",
            "return webhook.secret",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/ends.sql",
        test_send_webhooks,
        retry_hears_where_its_job_did=(
            "WHERE job_id = NEW.rerun_of AND subject_id",
            "WHERE job_id IS NULL AND subject_id",
        ),
        end_makes_a_webhook_pending=(
            "   WHERE job_id = NEW.id AND state = 'waiting';",
            "   WHERE false;",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/ends.sql",
        test_unseen_jobs,
        end_enters_the_inbox=(
            "INSERT INTO unseen_job (job_id, subject_id) VALUES (NEW.id, NEW.subject_id);",
            "",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/row_security.sql",
        test_row_security,
        unseen_jobs_of_others_are_hidden=shows_all_of("unseen_job"),
        webhook_targets_of_others_are_hidden=shows_all_of("webhook_target"),
        webhook_secrets_of_others_are_hidden=shows_all_of("webhook_secret"),
        end_of_anothers_job_is_not_announced=(
            "\n                AND EXISTS (SELECT FROM job WHERE job.id = webhook_delivery.job_id)",
            "",
        ),
    ),
    *mutants_in_file(
        wait_for_jobs,
        test_unseen_jobs,
        wait_for_a_workspace_marks_nothing=(", marks_seen=selection is None", ""),
    ),
    *mutants_in_file(
        changes,
        test_changes,
        test_unseen_jobs,
        seen_job_is_of_its_subject=(
            "DELETE FROM unseen_job WHERE subject_id = $1 AND job_id",
            "DELETE FROM unseen_job WHERE $1::text <> '' AND job_id",
        ),
        inbox_page_is_of_its_subject=(
            "DELETE FROM unseen_job WHERE subject_id = $1 AND page = $2",
            "DELETE FROM unseen_job WHERE $1::text <> '' AND page = $2",
        ),
        same_page_writes_nothing=("       AND NOT EXISTS (SELECT FROM same)\n", ""),
    ),
)
