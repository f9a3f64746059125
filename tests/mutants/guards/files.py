"""Guards of files: what is read for a call, and what a person takes along."""

from typing import Final

from schema.accounts import audit
from schema.batches import queries as batch_queries
from schema.specs import hub_job as spec_hub_job
from service.jobs import exports, output_files, scopes
from tests.mutants.mutant import mutants_in_file
from tests.schema.specs.uv import test_script
from tests.service.auth import test_repository_scopes
from tests.service.jobs import test_exports, test_output_files
from tests.workers.inference import test_chat_pictures
from tests.workers.spaces import test_client_attacks as test_space_attacks
from workers.executors import space as space_executor
from workers.inference import call as inference_call

FILE_GUARDS: Final = (
    *mutants_in_file(
        inference_call,
        test_chat_pictures,
        pictures_of_a_chat_have_one_limit=(
            "            bytes_left -= len(pictures[uri].content)\n",
            "",
        ),
    ),
    *mutants_in_file(
        space_executor,
        test_space_attacks,
        a_missing_file_is_no_missing_space=(
            "            if error.status != HTTPStatus.NOT_FOUND:\n                raise\n",
            "            raise\n",
        ),
    ),
    *mutants_in_file(
        exports,
        test_exports,
        a_record_is_of_what_is_over=(
            "        operations.expect_finished(status)\n",
            "        pass\n",
        ),
        only_a_batch_has_items=(
            'if kind == "items" and status.kind != JobKind.BATCH:',
            "if False:",
        ),
        an_entry_leads_nowhere=('.strip(". ") for step in', " for step in"),
        no_two_entries_are_one_file=("while name.lower() in used:", "while name in used:"),
        an_item_of_a_batch_that_ended_is_not_open=(
            'partial = "" if status.finished_at is not None else "incomplete-"',
            'partial = ""',
        ),
    ),
    *mutants_in_file(
        output_files,
        test_output_files,
        a_file_is_of_its_job=("if each.name == name), None)", "if True), None)"),
        a_large_file_is_not_read=("if file.size_bytes > MAX_READ_BYTES:", "if False:"),
        the_bytes_are_those_the_job_left=("if file.revision is not None:", "if False:"),
        bytes_are_no_text=('return None if "\\0" in text else text', "return text"),
    ),
    *mutants_in_file(
        audit,
        test_exports,
        links_are_counted_one_by_one=("    await tx.execute(_LOCK_LINKS, subject_id)\n", ""),
        links_have_a_limit=("if len(live) >= MAX_LIVE_LINKS:", "if False:"),
    ),
    *mutants_in_file(
        batch_queries,
        test_exports,
        a_page_of_items_is_bounded=(
            " WHERE bytes_before < :max_bytes\n",
            " WHERE :max_bytes > 0\n",
        ),
    ),
    *mutants_in_file(
        spec_hub_job,
        test_script,
        nothing_is_mounted_over_a_script=("if script and script.hub_uri and", "if False and"),
    ),
    *mutants_in_file(
        scopes,
        test_repository_scopes,
        a_script_is_read=('_read_files(fields.get("script"), is_uri=True)', "set()"),
        an_argument_of_a_space_is_read=(
            '_read_files(_unpack(fields.get("arguments")), is_uri=True)',
            "set()",
        ),
        an_address_alone_is_read=(
            '_read_files(fields.get("inputs"), is_uri=_takes_bytes(fields))',
            '_read_files(fields.get("inputs"))',
        ),
    ),
)
