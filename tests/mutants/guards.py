"""Every guard there is to miss."""

from typing import Final

from tests.mutants.chains import CHAINS
from tests.mutants.groups import GROUPS
from tests.mutants.identity import IDENTITY
from tests.mutants.limits import LIMITS
from tests.mutants.money import MONEY
from tests.mutants.moves import MOVES
from tests.mutants.outputs import OUTPUTS
from tests.mutants.printed import PRINTED
from tests.mutants.records import RECORDS
from tests.mutants.tables import TABLES
from tests.mutants.tokens import TOKENS
from tests.mutants.wall import WALL
from tests.mutants.work import WORK

GUARDS: Final = (
    *CHAINS,
    *GROUPS,
    *IDENTITY,
    *MOVES,
    *MONEY,
    *WORK,
    *LIMITS,
    *TOKENS,
    *RECORDS,
    *TABLES,
    *WALL,
    *OUTPUTS,
    *PRINTED,
)
