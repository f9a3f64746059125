"""Sessions in browsers: a sealed cookie with a random id, whose tokens lie in Postgres.

    cookie = sealed (id, name, until when)      row = hash(id) → account, sealed tokens of the Hub

The cookie alone shows a name in a header. Whatever is private is read with the row, so signing out,
erasure and a restored backup end a session in every replica at once. The row is that of a connected
account, whose sign-in is the session itself (ADR 30): its tokens are refreshed by the same code.
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from schema.accounts.connections import hash_sign_in
from service.http.pages.cookies import BrowserCookie
from service.runtime.sealed_models import seal_model, unseal_model
from service.runtime.sealed_tokens import SealedTokens

SESSION_LIFETIME: Final = timedelta(days=14)
"""How long a person stays signed in, at most."""
CSRF_FIELD: Final = "csrf"
_MAX_COOKIE_CHARS: Final = 1024


class BrowserSession(BaseModel):
    """What the cookie holds, sealed."""

    session_id: str
    name: str
    """Of the account, for the header of a page."""

    @property
    def sign_in_id(self) -> str:
        """The key of its row."""
        return hash_sign_in("session", self.session_id)


class CsrfToken(BaseModel):
    """What a form of a session carries, sealed; another site cannot read one, and has none."""

    session_digest: str


@dataclass(frozen=True, slots=True)
class SignedInAccount:
    """Who has signed in, as a template shows it."""

    name: str
    csrf_token: str


class Sessions:
    """Makes, reads and ends the cookies of sessions."""

    def __init__(self, seals: SealedTokens, *, is_https: bool) -> None:
        """Prepare the cookie.

        Args:
            seals: of sessions alone.
            is_https: whether browsers reach the service by HTTPS.
        """
        self._seals = seals
        self._cookie = BrowserCookie(
            "holdfast-session", is_https=is_https, lifetime=SESSION_LIFETIME
        )

    def make(self, name: str) -> BrowserSession:
        """Make a session with an id that nobody has seen: no browser can bring one along."""
        return BrowserSession(session_id=secrets.token_urlsafe(32), name=name)

    def set(self, response: Response, session: BrowserSession) -> None:
        """Give the browser its session."""
        self._cookie.set(response, seal_model(self._seals, session, SESSION_LIFETIME))

    def read(self, request: Request) -> BrowserSession | None:
        """Return the session of a request; None if there is none, or it is too old or forged."""
        sealed = self._cookie.read(request)
        if not sealed or len(sealed) > _MAX_COOKIE_CHARS:
            return None
        return unseal_model(self._seals, sealed, BrowserSession)

    def clear(self, response: Response) -> None:
        """Take the session out of the browser."""
        self._cookie.clear(response)

    def show_account(self, request: Request) -> SignedInAccount | None:
        """Return who the cookie says has signed in, for the header of a page."""
        session = self.read(request)
        if session is None:
            return None
        token = CsrfToken(session_digest=_digest(session))
        return SignedInAccount(session.name, seal_model(self._seals, token, SESSION_LIFETIME))

    def accepts_form(self, session: BrowserSession, csrf_token: str) -> bool:
        """Say whether a form was shown to this session by us."""
        token = unseal_model(self._seals, csrf_token, CsrfToken)
        return token is not None and hmac.compare_digest(token.session_digest, _digest(session))


def _digest(session: BrowserSession) -> str:
    return sha256(session.session_id.encode()).hexdigest()
