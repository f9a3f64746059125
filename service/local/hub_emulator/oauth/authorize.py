"""Authorization endpoint: it asks the user for consent and redirects the answer to the client.

Nothing is sent to a URI that the client did not register: until the URI is known to be registered,
a refusal is an error page here. While the consent page is open, the request is kept here under the
form's token, so a form answers only the request that was shown, and only once.
"""

import secrets
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.local.hub_emulator.current_user import get_hub_url
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
        """Show the consent page, unless the user has given the same consent before."""
        parameters = read_parameters(request.query_params.multi_items())
        client = self._clients.get(require_parameter(parameters, "client_id"))
        if client is None:
            raise OAuthError("invalid_request", "The client is not registered.")
        redirect_uri = require_parameter(parameters, "redirect_uri")
        if not client.allows_redirect_uri(redirect_uri):
            raise OAuthError("invalid_request", "The redirect URI is not one of the client's.")
        user = self._find_user(parameters.get("login_hint", _DEFAULT_USER_NAME))
        try:
            authorization = _parse_authorization(parameters, client, redirect_uri, user)
        except OAuthError as error:
            fields = {"error": error.code, "error_description": error.description}
            return _redirect(request, redirect_uri, fields, parameters.get("state"))
        # Safe without the page: who redeems the code must prove that they made this request.
        if parameters.get("prompt") != "consent" and self._grants.has_consent(authorization):
            return self._redirect_with_code(request, authorization)
        form_token = secrets.token_urlsafe(32)
        self._open_forms.put(form_token, authorization)
        page = render_consent_page(client.name, authorization, form_token)
        return HTMLResponse(page, headers=SECURITY_HEADERS)

    async def submit_decision(self, request: Request) -> Response:
        """Redirect the user's decision to the client."""
        parameters = read_parameters((await request.form()).multi_items())
        authorization = self._open_forms.pop(require_parameter(parameters, FORM_TOKEN))
        if authorization is None:
            raise OAuthError(
                "access_denied",
                "This form was not shown here, or was sent before. Go back to the client.",
                HTTPStatus.FORBIDDEN,
            )
        # Everything but this one value denies.
        if parameters.get(DECISION) == ALLOW:
            return self._redirect_with_code(request, authorization)
        fields = {"error": "access_denied"}
        return _redirect(request, authorization.redirect_uri, fields, authorization.state)

    def _redirect_with_code(
        self, request: Request, authorization: AuthorizationRequest
    ) -> Response:
        return _redirect(
            request,
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
    # A client may ask for more scopes than it registered, as MCP clients do step by step; the
    # consent page shows them.
    org_ids = parameters.get(ORGS_PARAMETER, "").split(",")
    return AuthorizationRequest(
        client_id=client.id,
        redirect_uri=redirect_uri,
        user=user,
        scopes=parse_scope(parameters.get("scope", client.scope)),
        orgs=[org for org in user.orgs if ORG_IDS[org] in org_ids],
        code_challenge=_parse_code_challenge(parameters, client),
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
    )


def _parse_code_challenge(parameters: dict[str, str], client: OAuthClient) -> str | None:
    # A confidential client may leave it out: it proves itself with its secret.
    if client.secret and not parameters.keys() & {"code_challenge", "code_challenge_method"}:
        return None
    challenge = require_parameter(parameters, "code_challenge")
    if parameters.get("code_challenge_method") != "S256" or not is_code_challenge(challenge):
        raise OAuthError("invalid_request", "The code challenge is not of the method S256.")
    return challenge


def _redirect(
    request: Request, redirect_uri: str, fields: dict[str, str], state: str | None
) -> Response:
    # Most authorization servers send `iss`, and clients compare it (RFC 9207).
    parameters = {**fields, "iss": get_hub_url(request)}
    query = urlencode(parameters | ({"state": state} if state is not None else {}))
    url = f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{query}"
    # 303 See Other: the browser must not send the form on to the client.
    return RedirectResponse(url, HTTPStatus.SEE_OTHER, headers=SECURITY_HEADERS)
