"""Guards of the command line and of the local stack."""

from typing import Final

from service.cli import main as cli_main
from tests.mutants.mutant import mutants_in_file
from tests.service.cli import test_main as test_cli_main

LOCAL_GUARDS: Final = (
    *mutants_in_file(
        cli_main,
        test_cli_main,
        production_loads_no_local_stack=(
            "from service.cli import doctor\n",
            "from service.cli import doctor, local\n",
        ),
        the_image_says_what_it_leaves_out=('if find_spec("service.local") is None:', "if False:"),
    ),
)
