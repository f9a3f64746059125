"""The user who makes a request, as `AuthRateLimitMiddleware` has found them."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.users import LocalUser, Permission

UserEndpoint = Callable[[Request, LocalUser], Awaitable[Response]]


def with_current_user(handler: UserEndpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that calls `handler` with the user, and refuses requests without one."""

    async def endpoint(request: Request) -> Response:
        return await handler(request, require_current_user(request))

    return endpoint


def find_current_user(request: Request) -> LocalUser | None:
    """Return the user who makes the request; None if it has no valid token."""
    user: LocalUser | None = request.state.user
    return user


def require_current_user(request: Request) -> LocalUser:
    """Return the user who makes the request.

    Raises:
        HubApiError: the request has no valid token.
    """
    user = find_current_user(request)
    if user is None:
        raise HubApiError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    return user


def write_forbidden_error(target: str) -> HubApiError:
    """Build the error for a user who may not write to `target`."""
    return missing_permission_error(target, Permission.WRITE_REPOS)


def missing_permission_error(target: str, permission: Permission) -> HubApiError:
    """Build the error for a token that lacks a permission for `target`."""
    return HubApiError(
        HTTPStatus.FORBIDDEN,
        f"You don't have the required permissions to complete this action on {target}, "
        f"missing permissions: {permission}",
    )


def get_hub_url(request: Request) -> str:
    """Return the URL of the Hub that the request was sent to."""
    return str(request.base_url).rstrip("/")
