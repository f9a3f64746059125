"""Describe what is kept

A file that is kept here has the size and the digest that are shown of it, and is no larger than any
setting allows. Its bytes are stored as they are: most are compressed already, and a download reads
them piece by piece.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

NAME = "ck_job_file_content_described"
RULE = (
    "content IS NULL OR (octet_length(content) = size_bytes AND sha256 IS NOT NULL"
    " AND size_bytes <= 209715200)"
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("ALTER TABLE job_file ALTER COLUMN content SET STORAGE EXTERNAL")
    op.execute(f"ALTER TABLE job_file ADD CONSTRAINT {NAME} CHECK ({RULE}) NOT VALID")
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE job_file VALIDATE CONSTRAINT {NAME}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(f"ALTER TABLE job_file DROP CONSTRAINT {NAME}")
    op.execute("ALTER TABLE job_file ALTER COLUMN content SET STORAGE EXTENDED")
