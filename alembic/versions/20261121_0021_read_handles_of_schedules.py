"""Read handles of schedules

`read_handle` reads every handle there is, in whatever case it was copied.
"""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

KINDS, MORE_KINDS = "'^(job|ws)_", "'^(job|ws|sched)_"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(_read_handle().replace(KINDS, MORE_KINDS))


def _read_handle() -> str:
    """Return the statement that made the function, as one that makes it anew."""
    (path,) = Path(__file__).parent.glob("*_0008_*.py")
    loader = SourceFileLoader("shown", str(path))
    module = ModuleType("shown")
    loader.exec_module(module)
    return str(module.READ_HANDLE).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(_read_handle())
