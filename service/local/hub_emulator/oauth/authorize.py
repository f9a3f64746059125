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

from service.local.hub_emulator.oauth.bounded_cache import BoundedCache
from service.local.hub_emulator.oauth.clients import OAuthClient, OAuthClientStore
from service.local.hub_emulator.oauth.consent_page import (
    ALLOW,
    DECISION,
    FORM_TOKEN,
    SECURITY_HEADERS,
    render_consent_page,
)
from service.local.hub_emulator.oauth.errors import (
    ORGS_PARAMETER,
    OAuthError,
    read_parameters,
    require_parameter,
)
from service.local.hub_emulator.oauth.grants import (
    AuthorizationRequest,
    GrantStore,
    is_code_challenge,
)
from service.local.hub_emulator.oauth.scopes import parse_scope
from service.local.hub_emulator.users import ORG_IDS, LocalTokenKind, LocalUser, find_user

_DEFAULT_USER_NAME: Final = "alice"


class AuthorizationEndpoint:
    """The authorization endpoint."""

    def __init__(
        self, clients: OAuthClientStore, grants: GrantStore, users: list[LocalUser]
    ) -> None:
        self._clients = clients
        self._grants = grants
        self._users = users
        self._open_forms: BoundedCache[AuthorizationRequest] = BoundedCache()

    async def request_consent(self, request: Request) -> Response:
        """Show the consent page; whoever allowed the same before is not asked again."""
        given = read_parameters(request.query_params.multi_items())
        client = self._clients.get(require_parameter(given, "client_id"))
        if client is None:
            raise OAuthError("invalid_request", "The client is not registered.")
        redirect_uri = require_parameter(given, "redirect_uri")
        if not client.allows_redirect_uri(redirect_uri):
            raise OAuthError("invalid_request", "The redirect URI is not one of the client's.")
        user = self._find_user(given.get("login_hint", _DEFAULT_USER_NAME))
        try:
            asked = _parse_authorization(given, client, redirect_uri, user)
        except OAuthError as refusal:
            said = {"error": refusal.code, "error_description": refusal.description}
            return _redirect(redirect_uri, said, given.get("state"))
        # Whoever has the code still has to prove that it was theirs to ask for.
        if given.get("prompt") != "consent" and self._grants.has_consent(asked):
            return self._redirect_with_code(asked)
        form_token = secrets.token_urlsafe(32)
        self._open_forms.put(form_token, asked)
        return HTMLResponse(
            render_consent_page(client.name, asked, form_token), headers=SECURITY_HEADERS
        )

    async def submit_decision(self, request: Request) -> Response:
        """Take the form's answer to the client."""
        given = read_parameters((await request.form()).multi_items())
        asked = self._open_forms.pop(require_parameter(given, FORM_TOKEN))
        if asked is None:
            raise OAuthError(
                "access_denied",
                "This form was not shown here, or was sent before. Go back to the client.",
                HTTPStatus.FORBIDDEN,
            )
        # Only what says so is a yes.
        if given.get(DECISION) == ALLOW:
            return self._redirect_with_code(asked)
        return _redirect(asked.redirect_uri, {"error": "access_denied"}, asked.state)

    def _redirect_with_code(self, authorization: AuthorizationRequest) -> Response:
        return _redirect(
            authorization.redirect_uri,
            {"code": self._grants.issue_code(authorization)},
            authorization.state,
        )

    def _find_user(self, name: str) -> LocalUser:
        if name not in {user.name for user in self._users}:
            raise OAuthError("invalid_request", "There is no local user of that name.")
        return find_user(self._users, name, LocalTokenKind.WRITE)


def _parse_authorization(
    parameters: dict[str, str], client: OAuthClient, redirect_uri: str, user: LocalUser
) -> AuthorizationRequest:
    if require_parameter(parameters, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "The response type is not code.")
    # A client may ask for more than it registered with, as MCP's do step by step; the page says it.
    wanted = parameters.get(ORGS_PARAMETER, "").split(",")
    return AuthorizationRequest(
        client_id=client.id,
        redirect_uri=redirect_uri,
        user=user,
        scopes=parse_scope(parameters.get("scope", client.scope)),
        orgs=[org for org in user.orgs if ORG_IDS[org] in wanted],
        code_challenge=_parse_code_challenge(parameters, client),
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
    )


def _parse_code_challenge(parameters: dict[str, str], client: OAuthClient) -> str | None:
    # A confidential client may do without: it has a secret to prove itself with.
    if client.secret and not parameters.keys() & {"code_challenge", "code_challenge_method"}:
        return None
    challenge = require_parameter(parameters, "code_challenge")
    if parameters.get("code_challenge_method") != "S256" or not is_code_challenge(challenge):
        raise OAuthError("invalid_request", "The code challenge is not of the method S256.")
    return challenge


def _redirect(redirect_uri: str, fields: dict[str, str], state: str | None) -> Response:
    query = urlencode(fields | ({"state": state} if state is not None else {}))
    url = f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{query}"
    # See Other: the form's answer is not to be sent on.
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, headers=SECURITY_HEADERS)
