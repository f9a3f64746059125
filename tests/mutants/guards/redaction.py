"""Guards of the logs of jobs: what is stored of them, where, and what is left out."""

from typing import Final

from schema.artifacts import log_store
from schema.specs.inputs import hub_tokens
from service.jobs import logs as job_logs
from tests.mutants.mutant import mutants_in_file
from tests.service.mcp.tools import test_job_logs
from tests.workers.artifacts import test_log_capture, test_redaction
from tests.workers.attempts import test_run as test_attempt_run
from tests.workers.hub import test_log_stream
from workers.artifacts import log_capture, redaction, secret_parts
from workers.attempts import run as attempt_run
from workers.hub import client as hub_client
from workers.hub import log_stream

REDACTION_GUARDS: Final = (
    *mutants_in_file(
        log_capture,
        test_log_capture,
        the_beginning_of_a_secret_waits=(
            "0 if is_last else self._redactor.count_undecided_lines(lines)",
            "0",
        ),
        a_broken_log_is_taken_up=(
            "        if is_final:\n            break\n",
            "        break\n",
        ),
        progress_is_worth_another_try=(
            "1 if capture.stored_lines > lines_before else tries + 1",
            "tries + 1",
        ),
        a_token_does_not_lose_a_log=(
            "{HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}",
            "set[HTTPStatus]()",
        ),
        a_line_is_kept_by_one_worker=(
            "                raise _CapturedByAnotherWorker",
            "                pass",
        ),
        a_log_without_its_key_is_withheld=(
            "if redactor is None:\n        return",
            "redactor = redactor or Redactor({})\n    if False:\n        return",
        ),
        what_is_kept_is_skipped=("skip = self.stored_lines - context_lines", "skip = 0"),
    ),
    *mutants_in_file(
        log_capture,
        test_redaction,
        lines_before_are_looked_at=("        self._context.extend(lines[:ready])\n", ""),
        the_last_state_is_searched_too=(
            "return line if state == line else self._redactor.redact(state)",
            "return state",
        ),
    ),
    *mutants_in_file(
        redaction,
        test_redaction,
        base64_has_three_places=("for shift in range(3):", "for shift in range(1):"),
        overlapping_secrets_are_found=("start + 1)", "start + len(form.text))"),
        overlapping_finds_are_one=("end=max(match.end, merged[-1].end)", "end=merged[-1].end"),
        what_is_next_to_a_gap_is_not_kept=(
            "_apply_marks(text, start, gap_start, matches)",
            "_apply_marks(text, start, start + gap, matches)",
        ),
        lines_of_a_key_are_found_alone=("if is_telling and is_redactable(line):", "if not line:"),
        parts_are_searched=("{secret, *find_secret_parts(secret)}", "{secret}"),
        a_token_does_not_replace_a_secret_of_its_name=(
            "named = [*secrets.items()]",
            "named = [pair for pair in secrets.items() if pair[0] != TOKEN_VARIABLE]",
        ),
    ),
    *mutants_in_file(
        hub_tokens,
        test_redaction,
        names_are_no_tokens=("[A-Za-z0-9]{30,}", "[A-Za-z0-9_]{3,}"),
    ),
    *mutants_in_file(
        secret_parts,
        test_redaction,
        plain_words_stay=("and not plain", ""),
        common_words_in_a_secret_stay=("return not is_phrase or", "return True or"),
    ),
    *mutants_in_file(
        log_stream,
        test_log_stream,
        a_long_line_is_not_held=(
            "if len(self._buffer) > self._max_event_bytes:",
            "if not self._max_event_bytes:",
        ),
        the_end_of_a_long_line_is_read=(
            "for missing in range(_MAX_CHAR_BYTES):\n        # The first",
            "for missing in range(1):\n        # The first",
        ),
        only_the_hubs_lines_are_left_out=("===== Job (started at |finished: )", "===== Job "),
        a_long_line_is_read=(
            "                parts = _parse_beginning(self._beginning), _parse_end(self._buffer)",
            '                parts = "", _parse_end(self._buffer)',
        ),
    ),
    *mutants_in_file(
        hub_client,
        test_log_capture,
        being_alive_is_no_news=("if not chunk.startswith(_KEEP_ALIVE_PREFIX):", "if chunk:"),
    ),
    *mutants_in_file(
        log_store,
        test_log_capture,
        a_tail_rolls=(
            'row["tail_bytes"] > max_half_bytes',
            'row["tail_bytes"] > max_half_bytes * 9',
        ),
        a_head_has_its_room=(
            "AND log.head_bytes + :size_bytes <= :max_half_bytes",
            "AND :max_half_bytes > 0",
        ),
        a_tail_is_counted=("tail_bytes = tail_bytes - (", "tail_bytes = tail_bytes - 0 * ("),
    ),
    *mutants_in_file(
        job_logs,
        test_job_logs,
        a_reply_has_a_frame=("query.page_bytes - _REPLY_OVERHEAD_BYTES", "query.page_bytes"),
        a_page_has_a_largest_size=("min(self.max_bytes, MAX_PAGE_BYTES)", "self.max_bytes"),
        an_object_has_a_size=(
            "max(len(text_line.encode()), len(json_line",
            "max(len(text_line.encode()), 0 * len(json_line",
        ),
        the_end_is_what_is_asked_for=(
            "_take_fitting_lines(lines[::-1], query)[::-1]",
            "_take_fitting_lines(lines, query)",
        ),
    ),
    *mutants_in_file(
        attempt_run,
        test_attempt_run,
        a_refusal_repeats_no_secret=(
            "outcome = redact_outcome(answer, redactor)",
            "outcome = answer",
        ),
        a_passed_token_is_looked_for=(
            "if names := list_token_variables(claim.spec):",
            "if names := list[str]():",
        ),
    ),
)
