"""Who asks the Hub for something, as the gate has found out, and where they ask."""

from http import HTTPStatus

from starlette.requests import Request

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.users import LocalUser, Permission


def find_current_user(request: Request) -> LocalUser | None:
    """Return who asks; none if they did not say."""
    caller: LocalUser | None = request.state.caller
    return caller


def require_current_user(request: Request) -> LocalUser:
    """Return who asks.

    Raises:
        Refusal: they did not say.
    """
    caller = find_current_user(request)
    if caller is None:
        raise HubApiError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    return caller


def write_forbidden_error(target: str) -> HubApiError:
    """Say what somebody who may not write there would need."""
    return HubApiError(
        HTTPStatus.FORBIDDEN,
        f"You don't have the required permissions to complete this action on {target}, "
        f"missing permissions: {Permission.WRITE_REPOS}",
    )


def get_hub_url(request: Request) -> str:
    """Return the address the Hub was asked at."""
    return str(request.base_url).rstrip("/")
