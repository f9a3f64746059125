"""The steps of connecting and disconnecting, without the pages.

What one step gives to the next is sealed, and bound to the cookie of the browser. The sign-in is
inside of the seal from the moment it was verified, so no later step can be told another one.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import structlog
from pydantic import BaseModel

from schema.accounts import connections
from schema.accounts.connections import HubTokens, hash_sign_in
from schema.accounts.row_security import act_as_sign_in, act_as_subject
from schema.accounts.vault import Secret, Vault
from schema.common.errors import HoldfastError
from schema.hub.oauth.upstream import ProofKey, TokenAnswer, UpstreamServer
from service.auth.caller import Caller
from service.auth.hub_client import HubAccountClient
from service.auth.jwt_verifier import ExternalIdentity, JwtVerifier
from service.database import TenantDatabase
from service.runtime.sealed_models import seal_model, unseal_model
from service.runtime.sealed_tokens import SealedTokens

CONNECT_LIFETIME: Final = timedelta(minutes=10)
"""How long a person may take, from one page of ours to the next."""

Purpose = Literal["connect", "disconnect"]

log = structlog.stdlib.get_logger()


class ConnectRefused(HoldfastError):
    """A step cannot be taken; the sentence is for the person, and nothing was stored."""


class SignInStep(BaseModel):
    """The `state` at the authorization server."""

    purpose: Purpose
    verifier: str
    browser_digest: str
    """Of the cookie of the browser that began; the same in each step."""


class HubStep(BaseModel):
    """The `state` at the Hub: who has signed in here."""

    issuer: str
    subject: str
    label: str
    """How the pages call the sign-in."""
    verifier: str
    browser_digest: str


class ConnectConfirmation(BaseModel):
    """What a person sees before it is stored: two accounts, and the tokens of the second."""

    issuer: str
    subject: str
    label: str
    subject_id: str
    name: str
    access_token: str
    refresh_token: str
    lifetime_seconds: int | None
    grants: list[str]
    browser_digest: str


class DisconnectConfirmation(BaseModel):
    """The connection that a person sees before it is deleted."""

    issuer: str
    subject: str
    label: str
    subject_id: str
    connection_id: UUID
    browser_digest: str


@dataclass(frozen=True, slots=True)
class ConnectServices:
    """What the steps need."""

    sign_in: UpstreamServer
    """The authorization server, with the redirect address of the second step."""
    hub: UpstreamServer
    jwt_verifier: JwtVerifier
    hub_accounts: HubAccountClient
    database: TenantDatabase
    vault: Vault
    seals: SealedTokens
    """Of this flow alone."""
    scopes: tuple[str, ...]
    """What a person signs in for at the authorization server."""
    required_scopes: tuple[str, ...]
    """Those without which a sign-in is for nothing here."""
    hub_scopes: tuple[str, ...]
    resource: str
    """What the access token of the authorization server has to be for."""


class ConnectFlow:
    """Takes the steps."""

    def __init__(self, services: ConnectServices) -> None:
        self._services = services

    @property
    def issuer(self) -> str:
        """The authorization server."""
        return self._services.sign_in.issuer

    @property
    def hub_url(self) -> str:
        """The Hub."""
        return self._services.hub.issuer

    async def begin(self, purpose: Purpose, browser_digest: str) -> str:
        """Return where a person signs in, to connect or to disconnect.

        Raises:
            Unavailable: the authorization server does not answer.
        """
        proof = ProofKey.generate()
        step = SignInStep(purpose=purpose, verifier=proof.verifier, browser_digest=browser_digest)
        return await self._services.sign_in.build_authorization_url(
            state=self._seal(step),
            code_challenge=proof.challenge,
            scopes=self._services.scopes,
            resource=self._services.resource,
        )

    def open_sign_in_step(self, sealed: str) -> SignInStep | None:
        """Return the state that came back; None if it is forged or too old."""
        return unseal_model(self._services.seals, sealed, SignInStep)

    def open_hub_step(self, sealed: str) -> HubStep | None:
        """Return the state that came back from the Hub; None if it is forged or too old."""
        return unseal_model(self._services.seals, sealed, HubStep)

    def open_connect_confirmation(self, sealed: str) -> ConnectConfirmation | None:
        """Return what a person has confirmed; None if it is forged or too old."""
        return unseal_model(self._services.seals, sealed, ConnectConfirmation)

    def open_disconnect_confirmation(self, sealed: str) -> DisconnectConfirmation | None:
        """Return what a person has confirmed; None if it is forged or too old."""
        return unseal_model(self._services.seals, sealed, DisconnectConfirmation)

    async def is_sign_in_answer(self, issuer: str | None) -> bool:
        """Say whether an answer is of the authorization server (RFC 9207)."""
        return await self._services.sign_in.is_own_answer(issuer)

    async def is_hub_answer(self, issuer: str | None) -> bool:
        """Say whether an answer is of the Hub (RFC 9207)."""
        return await self._services.hub.is_own_answer(issuer)

    async def identify(self, step: SignInStep, code: str) -> ExternalIdentity:
        """Return who has signed in.

        Raises:
            TokenRefused: the authorization server refuses the code.
            ConnectRefused: the sign-in is for nothing here.
            Unauthenticated: its access token is not valid here.
            Unavailable: the authorization server does not answer.
        """
        tokens = await self._services.sign_in.redeem_code(
            code, step.verifier, self._services.resource
        )
        identity = await self._services.jwt_verifier.verify(Secret(tokens.access_token))
        missing = [each for each in self._services.required_scopes if each not in identity.scopes]
        if missing:
            raise ConnectRefused(f"Your sign-in lacks the scopes {', '.join(missing)}.")
        return identity

    async def go_to_hub(self, identity: ExternalIdentity, browser_digest: str) -> str:
        """Return where the person lets us act at the Hub.

        Raises:
            Unavailable: the Hub does not answer.
        """
        proof = ProofKey.generate()
        step = HubStep(
            issuer=identity.issuer,
            subject=identity.subject,
            label=_label(identity),
            verifier=proof.verifier,
            browser_digest=browser_digest,
        )
        return await self._services.hub.build_authorization_url(
            state=self._seal(step),
            code_challenge=proof.challenge,
            scopes=self._services.hub_scopes,
            resource=None,
        )

    async def obtain_account(self, step: HubStep, code: str) -> ConnectConfirmation:
        """Redeem the code of the Hub, and return both accounts; nothing is stored.

        Raises:
            TokenRefused: the Hub refuses the code.
            ConnectRefused: what it gave is not enough to act with.
            Unauthenticated: the account is not one of a person.
            Unavailable: the Hub does not answer.
        """
        tokens = await self._services.hub.redeem_code(code, step.verifier, None)
        caller = await self._services.hub_accounts.whoami(Secret(tokens.access_token))
        return ConnectConfirmation(
            issuer=step.issuer,
            subject=step.subject,
            label=step.label,
            subject_id=caller.subject_id,
            name=caller.name,
            access_token=tokens.access_token,
            refresh_token=_require_usable(tokens, caller),
            lifetime_seconds=tokens.expires_in,
            # Without a scope, it is that of the request (RFC 6749, section 5.1).
            grants=[*self._services.hub_scopes] if tokens.scope is None else tokens.scope.split(),
            browser_digest=step.browser_digest,
        )

    def seal_confirmation(self, confirmation: ConnectConfirmation | DisconnectConfirmation) -> str:
        """Seal what the page of a confirmation carries."""
        return self._seal(confirmation)

    async def connect(self, confirmed: ConnectConfirmation) -> None:
        """Store what a person has confirmed.

        Raises:
            InDoubt: nobody knows whether it is stored.
            Unavailable: the database does not answer; nothing was stored.
        """
        sign_in_id = hash_sign_in(confirmed.issuer, confirmed.subject)
        seconds = confirmed.lifetime_seconds
        async with self._services.database.transaction() as tx:
            await act_as_sign_in(tx, sign_in_id)
            await act_as_subject(tx, confirmed.subject_id)
            await connections.connect_account(
                tx,
                self._services.vault,
                sign_in_id=sign_in_id,
                issuer=confirmed.issuer,
                subject_id=confirmed.subject_id,
                name=confirmed.name,
                tokens=HubTokens(Secret(confirmed.access_token), Secret(confirmed.refresh_token)),
                expires_in=None if seconds is None else timedelta(seconds=seconds),
                grants=confirmed.grants,
            )
        log.info("connection.made", subject=confirmed.subject_id)

    async def find_connection(
        self, identity: ExternalIdentity, browser_digest: str
    ) -> DisconnectConfirmation | None:
        """Return the connection of who has signed in; None if there is none.

        Raises:
            Unavailable: the database does not answer.
        """
        sign_in_id = hash_sign_in(identity.issuer, identity.subject)
        async with self._services.database.transaction() as tx:
            await act_as_sign_in(tx, sign_in_id)
            connection = await connections.load_connection(tx, self._services.vault, sign_in_id)
        if connection is None:
            return None
        return DisconnectConfirmation(
            issuer=identity.issuer,
            subject=identity.subject,
            label=_label(identity),
            subject_id=connection.subject_id,
            connection_id=connection.connection_id,
            browser_digest=browser_digest,
        )

    async def disconnect(self, confirmed: DisconnectConfirmation) -> bool:
        """Delete the connection that a person has seen, and revoke its tokens if the Hub can.

        Returns:
            Whether the Hub has revoked them.

        Raises:
            ConnectRefused: another page has deleted it, or connected again.
            InDoubt: nobody knows whether it is deleted.
            Unavailable: the database does not answer; nothing was deleted.
        """
        sign_in_id = hash_sign_in(confirmed.issuer, confirmed.subject)
        async with self._services.database.transaction() as tx:
            await act_as_sign_in(tx, sign_in_id)
            await act_as_subject(tx, confirmed.subject_id)
            deleted = await connections.disconnect_account(
                tx,
                self._services.vault,
                sign_in_id=sign_in_id,
                connection_id=confirmed.connection_id,
            )
        if deleted is None:
            raise ConnectRefused("The connection has changed since this page was shown.")
        log.info("connection.deleted", subject=confirmed.subject_id)
        tokens = deleted.tokens
        return tokens is not None and await self._services.hub.revoke_token(tokens.refresh)

    async def cancel(self, seen: ConnectConfirmation) -> bool:
        """Revoke the tokens that a person does not want stored, if the Hub can.

        Returns:
            Whether the Hub has revoked them.
        """
        return await self._services.hub.revoke_token(Secret(seen.refresh_token))

    def _seal(self, step: BaseModel) -> str:
        return seal_model(self._services.seals, step, CONNECT_LIFETIME)


def _label(identity: ExternalIdentity) -> str:
    shown = identity.name or identity.email
    return f"{shown} ({identity.subject})" if shown else identity.subject


def _require_usable(tokens: TokenAnswer, caller: Caller) -> str:
    if tokens.refresh_token is None:
        raise ConnectRefused("Hugging Face gave no refresh token, so it could not stay connected.")
    if not caller.can_act:
        raise ConnectRefused(
            "You have granted neither jobs nor inference-api, so there is nothing to do with it. "
            "Begin again, and grant them."
        )
    return tokens.refresh_token
