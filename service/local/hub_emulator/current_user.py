"""Who asks the Hub for something, as the gate has found out, and where they ask."""

from http import HTTPStatus

from starlette.requests import Request

from service.local.hub_emulator.errors import Refusal
from service.local.hub_emulator.users import LocalUser, Permission


def caller_of(request: Request) -> LocalUser | None:
    """Return who asks; none if they did not say."""
    caller: LocalUser | None = request.state.caller
    return caller


def signed_in(request: Request) -> LocalUser:
    """Return who asks.

    Raises:
        Refusal: they did not say.
    """
    caller = caller_of(request)
    if caller is None:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
    return caller


def may_not_write(where: str) -> Refusal:
    """Say what somebody who may not write there would need."""
    return Refusal(
        HTTPStatus.FORBIDDEN,
        f"You don't have the required permissions to complete this action on {where}, "
        f"missing permissions: {Permission.WRITE_REPOS}",
    )


def hub_url(request: Request) -> str:
    """Return the address the Hub was asked at."""
    return str(request.base_url).rstrip("/")
