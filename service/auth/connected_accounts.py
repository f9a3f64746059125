"""Connected accounts at work: a call with a verified sign-in acts with the tokens of its account.

The row is read for each call, so whoever disconnects is disconnected in every replica at once. An
access token that has expired, or that the Hub no longer accepts, is refreshed
(`schema.hub.oauth.connection_refresh`). Whoever finds the lease taken waits for the next version.
"""

from datetime import timedelta
from typing import Final

import anyio
import structlog

from schema.accounts import connections
from schema.accounts.connections import AccountConnection, HubTokens, hash_sign_in
from schema.accounts.row_security import act_as_sign_in, act_as_subject
from schema.accounts.vault import Vault
from schema.common.errors import Denied, Unauthenticated, Unavailable
from schema.hub.oauth.connection_refresh import ConnectionRefresher
from schema.hub.oauth.upstream import UpstreamServer
from service.auth.caller import Caller
from service.auth.jwt_verifier import ExternalIdentity
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase

_WAIT_FOR_REFRESH: Final = timedelta(seconds=15)
"""How long a call waits for another process to refresh: longer than the request may take."""
_LOOK_INTERVAL: Final = timedelta(seconds=0.2)
_RETRY_AFTER: Final = timedelta(seconds=5)

log = structlog.stdlib.get_logger()


class HubAuthorityMissing(Denied):
    """The caller is signed in here, but has no token of the Hub."""

    def __init__(self, connect_url: str | None = None) -> None:
        """Say what to do.

        Args:
            connect_url: where a person connects their account; None: that is not set up.
        """
        sending = (
            "Have your client send your Hugging Face token as well: X-HF-Authorization: Bearer hf_…"
        )
        if connect_url is not None:
            sending = (
                f"Open {connect_url} in a browser and connect your Hugging Face account, once; "
                f"then call again. A client can also send a token with each call: "
                f"X-HF-Authorization: Bearer hf_…"
            )
        super().__init__(
            "You are signed in, but Holdfast acts at Hugging Face with your own authority there. "
            f"{sending}"
        )


class ConnectionLost(Denied):
    """The account of the caller is connected, and Hugging Face does not accept its tokens."""

    def __init__(self, connect_url: str) -> None:
        super().__init__(
            "You are signed in, but Hugging Face no longer accepts the connection with your "
            f"account: it was taken back there, or has expired. Open {connect_url} in a browser "
            "and connect it again; then call again."
        )


class ConnectedAccounts:
    """Finds the account of a sign-in, and keeps its tokens valid."""

    def __init__(
        self,
        database: TenantDatabase,
        vault: Vault,
        token_verifier: TokenVerifier,
        hub: UpstreamServer,
        *,
        connect_url: str,
    ) -> None:
        """Build the reader of connected accounts.

        Args:
            hub: the Hub as an authorization server, with the application of the operator there.
            connect_url: where a person connects their account.
        """
        self._database = database
        self._vault = vault
        self._token_verifier = token_verifier
        self._refresher = ConnectionRefresher(database.transaction, vault, hub)
        self._connect_url = connect_url

    async def authenticate(self, identity: ExternalIdentity) -> Caller:
        """Return the caller at the Hub whose account is connected with a verified sign-in.

        Raises:
            HubAuthorityMissing: no account is connected.
            ConnectionLost: the Hub does not accept its tokens.
            Unavailable: the Hub or the database does not answer.
        """
        return await self.authenticate_sign_in(hash_sign_in(identity.issuer, identity.subject))

    async def authenticate_sign_in(self, sign_in_id: str) -> Caller:
        """Do so for the key of a sign-in, such as that of a session in a browser.

        Raises:
            HubAuthorityMissing: no account is connected.
            ConnectionLost: the Hub does not accept its tokens.
            Unavailable: the Hub or the database does not answer.
        """
        connection = await self._load(sign_in_id)
        if connection.expires_soon:
            connection = await self._refresh(connection)
        try:
            return await self._verify(connection)
        except Unauthenticated:
            if connection.is_fresh:  # another refresh would not mend it
                raise ConnectionLost(self._connect_url) from None
        connection = await self._refresh(connection)
        try:
            return await self._verify(connection)
        except Unauthenticated:
            raise ConnectionLost(self._connect_url) from None

    async def _verify(self, connection: AccountConnection) -> Caller:
        caller = await self._token_verifier.verify(
            self._tokens_of(connection).access, connection_id=connection.connection_id
        )
        if caller.subject_id != connection.subject_id:
            log.error("connection.other_account", subject=connection.subject_id)
            raise ConnectionLost(self._connect_url)
        return caller

    def _tokens_of(self, connection: AccountConnection) -> HubTokens:
        if connection.tokens is None:
            raise ConnectionLost(self._connect_url)
        return connection.tokens

    async def _load(self, sign_in_id: str) -> AccountConnection:
        async with self._database.transaction() as tx:
            await act_as_sign_in(tx, sign_in_id)
            connection = await connections.load_connection(tx, self._vault, sign_in_id)
            if connection is not None and connection.is_use_due:
                await act_as_subject(tx, connection.subject_id)
                await connections.record_use(tx, sign_in_id)
        if connection is None:
            raise HubAuthorityMissing(self._connect_url)
        return connection

    async def _refresh(self, expired: AccountConnection) -> AccountConnection:
        """Return the connection with the tokens after these, by refreshing them or by waiting."""
        deadline = anyio.current_time() + _WAIT_FOR_REFRESH.total_seconds()
        while anyio.current_time() < deadline:
            # Shielded: the Hub has forgotten the token of before, whether its caller waits or not.
            with anyio.CancelScope(shield=True):
                if await self._refresher.lease(expired):
                    await self._refresher.renew(expired)
            current = await self._load(expired.sign_in_id)
            self._tokens_of(current)
            if current.connection_id != expired.connection_id or current.version > expired.version:
                return current
            await anyio.sleep(_LOOK_INTERVAL.total_seconds())
        raise Unavailable("Hugging Face", retry_after=_RETRY_AFTER)
