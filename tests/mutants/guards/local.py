"""The guards of the command line and of the local stack."""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_COMMANDS: Final = "tests/service/cli/test_main.py"

LOCAL_GUARDS: Final = (
    *mutants_in_file(
        "service/cli/main.py",
        _COMMANDS,
        production_loads_no_local_stack=(
            "from service.cli import doctor\n",
            "from service.cli import doctor, local\n",
        ),
        the_image_says_what_it_leaves_out=('if find_spec("service.local") is None:', "if False:"),
    ),
)
