"""May this client have that? The user is asked, and the answer goes to where the client may get it.

Nothing is sent to an address that the client did not register: until it is known to be the client's
own, a refusal is shown here. What is asked for is kept here while the page is open, under the
form's token; so a form can only answer the question that was shown, and only once.
"""

import secrets
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.local.hub_emulator.oauth.bounded_cache import Recent
from service.local.hub_emulator.oauth.clients import Client, Clients
from service.local.hub_emulator.oauth.consent_page import (
    ALLOW,
    DECISION,
    FORM_TOKEN,
    HEADERS,
    consent_page,
)
from service.local.hub_emulator.oauth.errors import ORGS, OAuthRefusal, parameters, required
from service.local.hub_emulator.oauth.grants import Asked, Grants, is_challenge
from service.local.hub_emulator.oauth.scopes import chosen
from service.local.hub_emulator.users import ORG_IDS, LocalUser, TokenKind, user_with

_ANYBODY: Final = "alice"


class Authorize:
    """The authorization endpoint."""

    def __init__(self, clients: Clients, grants: Grants, users: list[LocalUser]) -> None:
        self._clients = clients
        self._grants = grants
        self._users = users
        self._open: Recent[Asked] = Recent()

    async def ask(self, request: Request) -> Response:
        """Show the consent page; whoever allowed the same before is not asked again."""
        given = parameters(request.query_params.multi_items())
        client = self._clients.get(required(given, "client_id"))
        if client is None:
            raise OAuthRefusal("invalid_request", "The client is not registered.")
        redirect_uri = required(given, "redirect_uri")
        if not client.owns(redirect_uri):
            raise OAuthRefusal("invalid_request", "The redirect URI is not one of the client's.")
        user = self._user(given.get("login_hint", _ANYBODY))
        try:
            asked = _asked(given, client, redirect_uri, user)
        except OAuthRefusal as refusal:
            said = {"error": refusal.code, "error_description": refusal.description}
            return _answer(redirect_uri, said, given.get("state"))
        # Whoever has the code still has to prove that it was theirs to ask for.
        if given.get("prompt") != "consent" and self._grants.allowed_before(asked):
            return self._allow(asked)
        form_token = secrets.token_urlsafe(32)
        self._open.put(form_token, asked)
        return HTMLResponse(consent_page(client.name, asked, form_token), headers=HEADERS)

    async def decide(self, request: Request) -> Response:
        """Take the form's answer to the client."""
        given = parameters((await request.form()).multi_items())
        asked = self._open.take(required(given, FORM_TOKEN))
        if asked is None:
            raise OAuthRefusal(
                "access_denied",
                "This form was not shown here, or was sent before. Go back to the client.",
                HTTPStatus.FORBIDDEN,
            )
        # Only what says so is a yes.
        if given.get(DECISION) == ALLOW:
            return self._allow(asked)
        return _answer(asked.redirect_uri, {"error": "access_denied"}, asked.state)

    def _allow(self, asked: Asked) -> Response:
        return _answer(asked.redirect_uri, {"code": self._grants.code(asked)}, asked.state)

    def _user(self, name: str) -> LocalUser:
        if name not in {user.name for user in self._users}:
            raise OAuthRefusal("invalid_request", "There is no local user of that name.")
        return user_with(self._users, name, TokenKind.WRITE)


def _asked(given: dict[str, str], client: Client, redirect_uri: str, user: LocalUser) -> Asked:
    if required(given, "response_type") != "code":
        raise OAuthRefusal("unsupported_response_type", "The response type is not code.")
    # A client may ask for more than it registered with, as MCP's do step by step; the page says it.
    wanted = given.get(ORGS, "").split(",")
    return Asked(
        client_id=client.id,
        redirect_uri=redirect_uri,
        user=user,
        scopes=chosen(given.get("scope", client.scope)),
        orgs=[org for org in user.orgs if ORG_IDS[org] in wanted],
        challenge=_challenge(given, client),
        state=given.get("state"),
        nonce=given.get("nonce"),
    )


def _challenge(given: dict[str, str], client: Client) -> str | None:
    # A confidential client may do without: it has a secret to prove itself with.
    if client.secret and not given.keys() & {"code_challenge", "code_challenge_method"}:
        return None
    challenge = required(given, "code_challenge")
    if given.get("code_challenge_method") != "S256" or not is_challenge(challenge):
        raise OAuthRefusal("invalid_request", "The code challenge is not of the method S256.")
    return challenge


def _answer(redirect_uri: str, said: dict[str, str], state: str | None) -> Response:
    query = urlencode(said | ({"state": state} if state is not None else {}))
    url = f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{query}"
    # See Other: the form's answer is not to be sent on.
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, headers=HEADERS)
