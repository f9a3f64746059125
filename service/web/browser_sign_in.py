"""Signing in with Hugging Face in a browser: code with a proof key, state, nonce, and a session.

    /sign-in ──▶ the Hub ──▶ /sign-in/callback ──▶ the page that was wanted
    (cookie, state)         (whoami; a new session, the one before ends)

The state is sealed, and bound to the cookie of the browser that began. Where the person goes
afterwards is in it, and is a path of ours.
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import jwt
import structlog
from pydantic import BaseModel

from schema.accounts import connections
from schema.accounts.connections import HubTokens
from schema.accounts.row_security import act_as_sign_in, act_as_subject
from schema.accounts.vault import Secret, Vault
from schema.common.errors import HoldfastError
from schema.hub.oauth.upstream import ProofKey, TokenAnswer, UpstreamServer
from service.auth.caller import Caller
from service.auth.connected_accounts import ConnectedAccounts
from service.auth.hub_client import HubAccountClient
from service.database import TenantDatabase
from service.runtime.sealed_models import seal_model, unseal_model
from service.runtime.sealed_tokens import SealedTokens
from service.web.sessions import BrowserSession, Sessions

SIGN_IN_LIFETIME: Final = timedelta(minutes=10)
"""How long a person may take at the Hub."""
CALLBACK_PATH: Final = "/sign-in/callback"
HOME_PATH: Final = "/jobs"
"""Where a person goes who has signed in, unless they wanted another page."""
_LOCAL_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,500}")
"""A path of ours: a second slash, or a backslash, would lead to another host."""

log = structlog.stdlib.get_logger()


class SignInFailed(HoldfastError):
    """The sign-in ends here; the sentence is for the person, and nobody is signed in."""


class SignInAttempt(BaseModel):
    """The `state` at the Hub."""

    verifier: str
    nonce: str
    browser_digest: str
    """Of the cookie of the browser that began."""
    next_path: str


@dataclass(frozen=True, slots=True)
class SignInServices:
    """What a sign-in needs."""

    hub: UpstreamServer
    hub_accounts: HubAccountClient
    accounts: ConnectedAccounts
    database: TenantDatabase
    vault: Vault
    seals: SealedTokens
    """Of this flow alone."""
    scopes: tuple[str, ...]


class BrowserSignIn:
    """Takes the steps of a sign-in, and knows who a session belongs to."""

    def __init__(self, services: SignInServices, sessions: Sessions) -> None:
        self._services = services
        self._sessions = sessions

    async def begin(self, next_path: str, browser_digest: str) -> str:
        """Return where a person signs in.

        Args:
            next_path: where they go afterwards, which `local_path` has checked.
            browser_digest: of the cookie of this flow.

        Raises:
            Unavailable: the Hub does not answer.
        """
        proof, nonce = ProofKey.generate(), secrets.token_urlsafe(24)
        attempt = SignInAttempt(
            verifier=proof.verifier,
            nonce=nonce,
            browser_digest=browser_digest,
            next_path=next_path,
        )
        return await self._services.hub.build_authorization_url(
            state=seal_model(self._services.seals, attempt, SIGN_IN_LIFETIME),
            code_challenge=proof.challenge,
            scopes=self._services.scopes,
            resource=None,
            nonce=nonce,
        )

    def open_attempt(self, sealed: str) -> SignInAttempt | None:
        """Return the state that came back; None if it is forged or too old."""
        return unseal_model(self._services.seals, sealed, SignInAttempt)

    async def is_hub_answer(self, issuer: str | None) -> bool:
        """Say whether an answer is of the Hub (RFC 9207)."""
        return await self._services.hub.is_own_answer(issuer)

    async def finish(self, attempt: SignInAttempt, code: str) -> BrowserSession:
        """Redeem the code, and store the tokens of a new session.

        Raises:
            TokenRefused: the Hub refuses the code.
            SignInFailed: what it gave is for another sign-in, or is not enough.
            Unauthenticated: the account is not one of a person.
            InDoubt: nobody knows whether the session is stored.
            Unavailable: the Hub or the database does not answer.
        """
        tokens = await self._services.hub.redeem_code(code, attempt.verifier, None)
        _require_nonce(tokens, attempt.nonce)
        if tokens.refresh_token is None:
            raise SignInFailed("Hugging Face gave no refresh token, so you could not stay.")
        caller = await self._services.hub_accounts.whoami(Secret(tokens.access_token))
        session = self._sessions.make(caller.name)
        seconds = tokens.expires_in
        async with self._services.database.transaction() as tx:
            await act_as_sign_in(tx, session.sign_in_id)
            await act_as_subject(tx, caller.subject_id)
            await connections.connect_account(
                tx,
                self._services.vault,
                sign_in_id=session.sign_in_id,
                issuer=self._services.hub.issuer,
                subject_id=caller.subject_id,
                name=caller.name,
                tokens=HubTokens(Secret(tokens.access_token), Secret(tokens.refresh_token)),
                expires_in=None if seconds is None else timedelta(seconds=seconds),
                grants=[] if tokens.scope is None else tokens.scope.split(),
            )
        log.info("session.made", subject=caller.subject_id)
        return session

    async def authenticate(self, session: BrowserSession) -> Caller:
        """Return who has signed in; their token is refreshed if need be, and lent to their jobs.

        Raises:
            HubAuthorityMissing: the session has ended.
            ConnectionLost: the Hub does not accept its tokens.
            Unavailable: the Hub or the database does not answer.
        """
        return await self._services.accounts.authenticate_sign_in(session.sign_in_id)

    async def end(self, session: BrowserSession) -> None:
        """End a session in every replica; the jobs of its person go on.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self._services.database.transaction() as tx:
            await act_as_sign_in(tx, session.sign_in_id)
            connection = await connections.load_connection(
                tx, self._services.vault, session.sign_in_id
            )
            if connection is not None:
                await act_as_subject(tx, connection.subject_id)
                await connections.end_session(tx, session.sign_in_id)


def local_path(path: str) -> str:
    """Return a path of ours to send a browser to; the page of jobs, if it is no such path."""
    return path if _LOCAL_PATH.fullmatch(path) else HOME_PATH


def _require_nonce(tokens: TokenAnswer, nonce: str) -> None:
    """Refuse an ID token of another sign-in.

    It came from the Hub itself, by TLS, so its signature proves nothing more (OpenID Connect Core,
    section 3.1.3.7); who the person is, whoami says.
    """
    if tokens.id_token is None:
        return  # a server without OpenID Connect; the proof key binds the code
    try:
        claims = jwt.decode(tokens.id_token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise SignInFailed("Hugging Face answered with an ID token that is none.") from None
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise SignInFailed("This answer belongs to another sign-in.")
