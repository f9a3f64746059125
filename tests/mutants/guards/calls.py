"""Guards of calls and their answers: messages, arguments, refusals, replies, the command line."""

from typing import Final

from schema.jobs.monitoring import changes
from schema.specs import command
from service.cli import main as cli_main
from service.http import cross_origin, messages, single_exchange
from service.jobs import batches, dry_run, scopes, wait
from service.local import data_dir
from service.mcp import error_hints, prompts, token_check
from service.mcp import tool as mcp_tool
from service.mcp.tools import account
from service.runtime import derived_cache
from service.views import jobs as view_jobs
from service.views import money, pages, text
from tests.mutants.mutant import mutants_in_file
from tests.schema.jobs import test_changes
from tests.schema.specs import test_command
from tests.service.auth import test_repository_scopes
from tests.service.cli import test_main as test_cli_main
from tests.service.http import test_cross_origin, test_messages, test_single_exchange
from tests.service.jobs import test_batches
from tests.service.local import test_data_dir
from tests.service.mcp import test_arguments, test_error_hints, test_reply_sizes, test_token_check
from tests.service.mcp.tools import test_pasted_lines, test_wait_for_jobs
from tests.service.runtime import test_derived_cache
from tests.service.views import test_text

CALL_GUARDS: Final = (
    *mutants_in_file(
        wait,
        test_wait_for_jobs,
        a_job_may_appear_between_two_reads=(
            "            self._initial_holds.setdefault(handle, status.hold)\n",
            "            pass\n",
        ),
    ),
    *mutants_in_file(
        changes,
        test_changes,
        a_change_that_is_not_shown_does_not_count=("AND event.version <= seen.shown", ""),
    ),
    *mutants_in_file(
        messages,
        test_messages,
        a_wrong_id_is_refused=(
            'return not any("id" in problem["loc"] for problem in error.errors(include_url=False))',
            "return True",
        ),
        later_versions_have_no_batches=(
            "if version != DEFAULT_NEGOTIATED_VERSION:",
            "if not version:",
        ),
        each_message_of_a_batch_is_read_by_itself=(
            "return [_parse_call(message) for message in _parse_messages(body)]",
            "return [_parse_call(message) for message in _parse_messages(body)][:1]",
        ),
        a_malformed_handshake_is_one=(
            "        return Call(method)\n    if",
            "        return Call()\n    if",
        ),
        batches_have_a_greatest_length=("if len(calls) > MAX_BATCH_MESSAGES:", "if False:"),
        a_list_that_is_no_json_is_no_batch=(
            "return _has_bracket(body) and _parse_json(body) is not None",
            "return _has_bracket(body)",
        ),
    ),
    *mutants_in_file(
        single_exchange,
        test_single_exchange,
        a_message_of_another_kind_is_left_to_the_sdk=(
            "or not members.keys() <= _REQUEST_MEMBERS",
            "or not members",
        ),
        a_new_version_is_left_to_the_sdk=(
            "return version if version in HANDSHAKE_PROTOCOL_VERSIONS else None",
            "return version",
        ),
        a_call_without_json_is_left_to_the_sdk=(
            "if media_type != _JSON or not takes_json:",
            "if media_type != _JSON:",
        ),
    ),
    *mutants_in_file(
        derived_cache,
        test_derived_cache,
        another_price_list_has_other_answers=(
            "if source is not self._source:",
            "if self._source is None:",
        ),
        cached_answers_are_bounded=(
            "if len(self._values) >= self._max_values:",
            "if not self._values:",
        ),
    ),
    *mutants_in_file(
        text,
        test_text,
        a_text_of_escapes_is_measured=("_MAX_CHAR_BYTES: Final = 6", "_MAX_CHAR_BYTES: Final = 4"),
    ),
    *mutants_in_file(
        cross_origin,
        test_cross_origin,
        only_loopback_pages_are_allowed_unnamed=(
            "allow_origin_regex=_LOOPBACK_ORIGIN",
            'allow_origin_regex=".*"',
        ),
    ),
    *mutants_in_file(
        mcp_tool,
        test_arguments,
        null_is_absent=("if value is not None or name not in fields", "if name"),
        a_text_stays_a_text=(
            "if isinstance(value, str) and name not in text_fields",
            "if isinstance(value, str)",
        ),
    ),
    *mutants_in_file(
        mcp_tool,
        test_reply_sizes,
        an_error_of_the_protocol_is_short=(
            "if count_json_bytes([error.message, error.data]) <= MAX_REFUSAL_BYTES:",
            "if error.message:",
        ),
    ),
    *mutants_in_file(
        token_check,
        test_token_check,
        no_token_is_stored_in_the_open=("if path is None:", "if name:"),
    ),
    *mutants_in_file(
        command,
        test_command,
        no_word_is_longer_than_a_kernel_takes=(
            "if len(word.encode()) > MAX_TEXT_BYTES:",
            "if len(word) > 10 * MAX_TEXT_BYTES:",
        ),
    ),
    *mutants_in_file(
        scopes,
        test_repository_scopes,
        what_is_written_needs_a_scope=("scopes.add(Scope.CONTRIBUTE_REPOS)", "pass"),
        what_is_private_needs_a_scope=("scopes.add(Scope.READ_REPOS)", "pass"),
    ),
    *mutants_in_file(
        error_hints,
        test_error_hints,
        no_secret_is_in_a_corrected_call=(
            "bool(SECRET_ARGUMENTS & corrected.keys())",
            "False",
        ),
    ),
    *mutants_in_file(
        error_hints,
        test_reply_sizes,
        a_refusal_is_short=(
            "fit_text(text, MAX_REFUSAL_BYTES, keeps_end=True)",
            "text",
        ),
        a_refusal_keeps_its_end=("MAX_REFUSAL_BYTES, keeps_end=True", "MAX_REFUSAL_BYTES"),
    ),
    *mutants_in_file(
        dry_run,
        test_reply_sizes,
        a_dry_run_is_short_as_an_object=(
            "return shorten_members(shown, _MAX_SPEC_BYTES)",
            "return shown",
        ),
        a_dry_run_is_short_as_words=(
            "fit_text(written, _MAX_SPEC_BYTES, keeps_end=True)",
            "written",
        ),
    ),
    *mutants_in_file(
        batches,
        test_batches,
        a_message_is_read_to_its_end=(
            "and query.limit > 1:  # of one",
            "and query.limit > 0:  # of one",
        ),
        a_cut_message_is_said_to_be_cut=("item.is_message_cut or message != item.message", "None"),
    ),
    *mutants_in_file(
        view_jobs,
        test_reply_sizes,
        a_message_of_the_hub_is_short=(
            "and fit_text(status.message, _MAX_MESSAGE_BYTES, keeps_end=True)",
            "and fit_text(status.message, 10**9, keeps_end=True)",
        ),
        a_message_of_the_hub_keeps_its_end=(
            "fit_text(status.message, _MAX_MESSAGE_BYTES, keeps_end=True)",
            "fit_text(status.message, _MAX_MESSAGE_BYTES)",
        ),
    ),
    *mutants_in_file(
        prompts,
        test_reply_sizes,
        a_compared_run_is_short=("shorten_members(run, share)", "run"),
    ),
    *mutants_in_file(
        money,
        test_reply_sizes,
        a_list_of_hardware_ends=(
            "take_page(flavors, limit=len(flavors), default_limit=len(flavors))",
            "(flavors, bool(take_page))",
        ),
    ),
    *mutants_in_file(
        account,
        test_reply_sizes,
        a_list_of_organisations_ends=(
            "take_fitting_texts(caller.organisations, _MAX_NAMESPACES_BYTES)",
            "caller.organisations",
        ),
    ),
    *mutants_in_file(
        pages,
        test_reply_sizes,
        a_page_ends_before_it_is_too_large=("if page and max_bytes < 0:", "if not page:"),
    ),
    *mutants_in_file(
        data_dir,
        test_data_dir,
        the_first_private_file_wins=("path.hardlink_to(draft)", "draft.replace(path)"),
    ),
    *mutants_in_file(
        mcp_tool,
        test_pasted_lines,
        a_corrected_call_has_been_checked=(
            "await self._run_checked(dry_run, context, convert_result=False)",
            "pass",
        ),
    ),
    *mutants_in_file(
        error_hints,
        test_pasted_lines,
        no_secret_of_a_pasted_line_is_repeated=(" and hide_secrets(call) == call", ""),
    ),
    *mutants_in_file(
        cli_main,
        test_cli_main,
        production_loads_no_local_stack=(
            "from service.cli.server import serve\n",
            "from service.cli import local\nfrom service.cli.server import serve\n",
        ),
        the_image_says_what_it_leaves_out=('if find_spec("service.local") is None:', "if False:"),
    ),
)
