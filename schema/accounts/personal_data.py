"""Everything that is stored of a subject, as lines of JSON: one file for each kind of thing.

The rows are read in the role of a tenant that acts for the subject, without comparing the subject
again: row-level security shows no row of anybody else, and its grants show nothing that is sealed.
Pages are read one after another, each in a transaction of its own, so neither memory nor a
transaction grows with the number of rows.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from schema.accounts.row_security import act_as_subject
from schema.db.database import Database

_LARGE_ROWS: Final = 20
"""Rows of a page where one may have a megabyte."""
_SMALL_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class _Table:
    """What one file has: the rows of a source, in the order of its keys."""

    name: str
    columns: str
    source: str
    keys: Sequence[str]
    page_rows: int = _SMALL_ROWS

    def page_sql(self, *, is_first: bool) -> str:
        """Write the statement for the first page, or for the one after the keys of a row."""
        keys = ", ".join(self.keys)
        numbers = ", ".join(f"${number}" for number in range(1, len(self.keys) + 1))
        # The first key by itself is what an index finds.
        after = f"WHERE {self.keys[0]} >= $1 AND ({keys}) > ({numbers})"
        names = [f"key{place}" for place in range(len(self.keys))]
        key_columns = ", ".join(
            f"{key} AS {name}" for key, name in zip(self.keys, names, strict=True)
        )
        hidden = ",".join([*names, *_HIDDEN_COLUMNS])
        return f"""
            SELECT (to_jsonb(page) - '{{{hidden}}}'::text[])::text AS line, {", ".join(names)}
              FROM (SELECT {self.columns}, {key_columns}
                      FROM {self.source}
                     {"" if is_first else after}
                     ORDER BY {keys}
                     LIMIT {self.page_rows}) AS page
        """  # noqa: S608  # our own words


_HIDDEN_COLUMNS: Final = ("digest", "secrets_digest")
"""Digests of requests and of secrets, which compare them and say nothing to a person."""

_TABLES: Final = (
    _Table("account", "subject.*", "subject", ["subject.id"]),
    _Table(
        "token",
        "version, state, grants, expires_at, updated_at, seen_at",
        "credential",
        ["credential.subject_id"],
    ),
    _Table(
        "connected_accounts",
        "issuer, version, state, grants, expires_at, connected_at, updated_at, used_at",
        "connected_account AS connection",
        ["connection.sign_in_id"],
    ),
    _Table(
        "workspaces",
        "write_handle('ws', workspace.id) AS handle, workspace.*",
        "workspace",
        ["workspace.id"],
    ),
    _Table(
        "jobs",
        "write_handle('job', job.id) AS handle, job.*, payload.spec, payload.result, cost",
        "job LEFT JOIN job_payload AS payload ON payload.job_id = job.id "
        "LEFT JOIN job_cost AS cost ON cost.job_id = job.id",
        ["job.id"],
        _LARGE_ROWS,
    ),
    _Table(
        "events",
        "event.*",
        "job JOIN job_event AS event ON event.job_id = job.id",
        ["job.id", "event.version"],
    ),
    _Table(
        "runs", "run.*", "job JOIN remote_run AS run ON run.job_id = job.id", ["job.id", "run.id"]
    ),
    _Table(
        "logs",
        "chunk.job_id, chunk.first_line, chunk.lines, chunk.captured_at",
        "job JOIN log_chunk AS chunk ON chunk.job_id = job.id",
        ["job.id", "chunk.first_line"],
        _LARGE_ROWS,
    ),
    _Table(
        "files",
        "file.job_id, file.name, file.size_bytes, file.media_type, file.sha256, file.revision, "
        "file.uri",
        "job JOIN job_file AS file ON file.job_id = job.id",
        ["job.id", "file.name"],
    ),
    _Table(
        "uploads",
        "write_handle('upload', upload.id) AS handle, upload.*",
        "upload",
        ["upload.id"],
    ),
    _Table(
        "job_uploads",
        "pin.job_id, pin.upload_id",
        "job JOIN job_upload AS pin ON pin.job_id = job.id",
        ["job.id", "pin.upload_id"],
    ),
    _Table(
        "batch_items",
        "item.*",
        "job JOIN batch_item AS item ON item.job_id = job.id",
        ["job.id", "item.position"],
        _LARGE_ROWS,
    ),
    _Table(
        "dependencies",
        "wait.*",
        "job JOIN job_dependency AS wait ON wait.job_id = job.id",
        ["job.id", "wait.parent_id"],
    ),
    _Table(
        "webhook_targets",
        "target.id, target.host, target.failures, target.due_at, target.disabled_at, "
        "target.used_at, target.created_at",
        "webhook_target AS target",
        ["target.id"],
    ),
    _Table("webhook_deliveries", "delivery.*", "webhook_delivery AS delivery", ["delivery.job_id"]),
    _Table(
        "idempotency_keys",
        "entry.key, entry.job_id, entry.expires_at",
        "idempotency_key AS entry",
        ["entry.key"],
    ),
    _Table(
        "schedules",
        "write_handle('sched', schedule.id) AS handle, schedule.*",
        "schedule",
        ["schedule.id"],
        _LARGE_ROWS,
    ),
    _Table(
        "schedule_firings",
        "firing.*",
        "schedule_firing AS firing",
        ["firing.schedule_id", "firing.fire_at"],
    ),
    _Table("spending", "spending.*", "spending", ["spending.month"]),
    _Table("usage_history", "history.*", "usage_history AS history", ["history.id"]),
    _Table("audit", "entry.*", "audit_entry AS entry", ["entry.id"]),
)


async def read_personal_data(
    database: Database, subject_id: str
) -> AsyncGenerator[tuple[str, Sequence[str]]]:
    """Yield the name of a file and a page of its lines, until nothing is left; each file once.

    A file without rows has one page without lines.

    Args:
        database: in the role of a tenant.
        subject_id: whose rows are read.
    """
    for table in _TABLES:
        after: list[object] = []
        is_complete = False
        while not is_complete:
            async with database.transaction() as tx:
                await act_as_subject(tx, subject_id)
                rows = await tx.fetch(table.page_sql(is_first=not after), *after)
            yield table.name, [row["line"] for row in rows]
            is_complete = len(rows) < table.page_rows
            if rows:
                after = list(rows[-1].values())[1:]
