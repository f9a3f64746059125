"""Refreshes of connected accounts, for the service while its person calls, and for workers.

    lease (transaction) ──▶ the Hub's token endpoint ──▶ store by version (transaction)

The Hub's refresh token is for one use, so only who has the lease sends it, and what comes for it is
stored whatever becomes of the lease. Only `invalid_grant` ends a connection: no other answer says
that the refresh token is worth nothing.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Final

import anyio
import structlog

from schema.accounts import connections, credentials
from schema.accounts.connections import AccountConnection, HubTokens
from schema.accounts.row_security import act_as_sign_in, act_as_subject
from schema.accounts.vault import Secret, Vault
from schema.common.errors import Unavailable
from schema.db.database import Transaction
from schema.hub.oauth.upstream import TokenAnswer, TokenRefused, UpstreamServer

_STORE_ATTEMPTS: Final = 6
_STORE_PAUSE: Final = timedelta(seconds=0.2)
_RETRY_AFTER: Final = timedelta(seconds=5)

log = structlog.stdlib.get_logger()

OpenTransaction = Callable[[], AbstractAsyncContextManager[Transaction]]


class ConnectionRefresher:
    """Exchanges the refresh token of a connection for the next tokens, and stores them."""

    def __init__(
        self,
        open_transaction: OpenTransaction,
        vault: Vault,
        hub: UpstreamServer,
        *,
        lends_tokens: bool = False,
    ) -> None:
        """Prepare.

        Args:
            open_transaction: opens one that ends with its block.
            vault: seals what is stored.
            hub: the Hub as an authorization server, with the application of the operator there.
            lends_tokens: whether jobs get the next access token in the same commit; the service
                lends it when it has verified it.
        """
        self._open_transaction = open_transaction
        self._vault = vault
        self._hub = hub
        self._lends_tokens = lends_tokens

    async def lease(self, connection: AccountConnection) -> bool:
        """Take the right to refresh this version; see `connections.lease_refresh`."""
        async with self._open_transaction() as tx:
            await _act_for(tx, connection)
            return await connections.lease_refresh(tx, connection)

    async def renew(self, connection: AccountConnection) -> None:
        """Refresh the tokens, under the lease; if the Hub refuses to, the connection is ended.

        Raises:
            Unavailable: the Hub does not answer, or refuses our application; the lease is given
                back. Or the database does not, and the next tokens are lost.
        """
        if connection.tokens is None:  # no key of the ring opens them
            return
        used = connection.tokens
        try:
            answer = await self._hub.refresh_token(used.refresh.reveal(), (), None)
        except TokenRefused as error:
            if error.reason != "invalid_grant":
                await self._release(connection)
                raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER) from None
            async with self._open_transaction() as tx:
                await _act_for(tx, connection)
                await connections.mark_connection_refused(tx, connection)
            log.info("connection.refused", subject=connection.subject_id)
            return
        except Unavailable:
            await self._release(connection)
            raise
        renewed = HubTokens(
            Secret(answer.access_token),
            Secret(answer.refresh_token) if answer.refresh_token else used.refresh,
        )
        if await self._store(connection, renewed, answer):
            log.info("connection.refreshed", subject=connection.subject_id)
            return
        # The person has disconnected, or connected again: nobody else knows these.
        is_revoked = bool(answer.refresh_token) and await self._hub.revoke_token(renewed.refresh)
        log.warning(
            "connection.tokens_dropped", subject=connection.subject_id, is_revoked=is_revoked
        )

    async def _store(
        self, connection: AccountConnection, tokens: HubTokens, answer: TokenAnswer
    ) -> bool:
        """Store the next tokens; nobody can get them a second time, so an outage is waited out.

        Returns:
            Whether they are stored; else the connection is another one by now.
        """
        for attempt in range(_STORE_ATTEMPTS):
            try:
                return await self._store_once(connection, tokens, answer)
            except Unavailable:
                if attempt == _STORE_ATTEMPTS - 1:
                    log.exception("connection.tokens_lost", subject=connection.subject_id)
                    raise
                await anyio.sleep(2**attempt * _STORE_PAUSE.total_seconds())
        raise AssertionError  # the last attempt returns or raises

    async def _store_once(
        self, connection: AccountConnection, tokens: HubTokens, answer: TokenAnswer
    ) -> bool:
        seconds = answer.expires_in
        async with self._open_transaction() as tx:
            await _act_for(tx, connection)
            if self._lends_tokens:
                await credentials.lock_lender(tx, connection.subject_id)
            is_stored = await connections.store_refreshed_tokens(
                tx,
                self._vault,
                connection,
                tokens,
                expires_in=None if seconds is None else timedelta(seconds=seconds),
                grants=None if answer.scope is None else answer.scope.split(),
            )
            if is_stored and self._lends_tokens:
                await connections.lend_refreshed_token(tx, self._vault, connection, tokens)
            return is_stored

    async def _release(self, connection: AccountConnection) -> None:
        with suppress(Unavailable):  # the lease ends by itself
            async with self._open_transaction() as tx:
                await _act_for(tx, connection)
                await connections.release_refresh(tx, connection)


async def _act_for(tx: Transaction, connection: AccountConnection) -> None:
    await act_as_sign_in(tx, connection.sign_in_id)
    await act_as_subject(tx, connection.subject_id)
