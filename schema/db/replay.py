"""A transaction that is begun again when a migration has altered a table beneath it.

A connection keeps its statements prepared. After a migration has added a column, Postgres refuses a
prepared `SELECT *` once ("cached plan must not change result type"), and the transaction with it.
Outside a transaction asyncpg prepares the statement anew, and asks again. Inside one nobody can:
what the caller did before is rolled back as well.

    first transaction    A ──▶ a    B ──▶ b    C ──▶ refused, and rolled back
    second transaction   A ──▶ a    B ──▶ b    C ──▶ c ──▶ the caller goes on

Nothing of the first one has happened, so its statements may run again. What the caller has read in
it must still be true: if an answer is another one now, the call ends as it would have without this.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from asyncpg.exceptions import InvalidCachedStatementError
from asyncpg.pool import PoolConnectionProxy

_Answer = tuple[str, str, tuple[object, ...], object]
"""The method, the statement, its arguments, and what it has returned."""


class ReplayedTransaction:
    """The statements of a transaction that is open on a connection."""

    def __init__(
        self, connection: PoolConnectionProxy, *, begin_sql: str, on_rollback: Callable[[], None]
    ) -> None:
        """Take over a transaction that has just begun.

        Args:
            connection: on which it is open.
            begin_sql: what begins another one like it.
            on_rollback: forgets what the first one has reported.
        """
        self._connection = connection
        self._restart_sql: Final = f"ROLLBACK; {begin_sql}"
        self._on_rollback = on_rollback
        self._answers: list[_Answer] = []

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement for its effect."""
        tag: str = await self._run("execute", query, args)
        return tag

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]:
        """Run a statement and return its rows."""
        rows: Sequence[Mapping[str, Any]] = await self._run("fetch", query, args)
        return rows

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        """Run a statement and return its first row."""
        row: Mapping[str, Any] | None = await self._run("fetchrow", query, args)
        return row

    async def fetchval(self, query: str, *args: object) -> Any:
        """Run a statement and return the first column of its first row."""
        return await self._run("fetchval", query, args)

    async def _run(self, method: str, query: str, args: tuple[object, ...]) -> Any:
        run = getattr(self._connection, method)
        try:
            answer = await run(query, *args)
        except InvalidCachedStatementError as refusal:
            await self._replay(refusal)
            answer = await run(query, *args)
        self._answers.append((method, query, args, answer))
        return answer

    async def _replay(self, refusal: InvalidCachedStatementError) -> None:
        """Begin again, and repeat the statements so far.

        Raises:
            InvalidCachedStatementError: one of them has another answer now.
        """
        await self._connection.execute(self._restart_sql)
        self._on_rollback()
        for method, query, args, answer in self._answers:
            if await getattr(self._connection, method)(query, *args) != answer:
                raise refusal
