"""Guards of files: what is read for a call, and what a person takes along."""

from typing import Final

from schema.specs import hub_job as spec_hub_job
from service.jobs import scopes
from tests.mutants.mutant import mutants_in_file
from tests.schema.specs.uv import test_script
from tests.service.auth import test_repository_scopes
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
