"""Refusals of a request before it reaches a tool, as JSON-RPC errors with a sentence for a person.

A client that speaks JSON-RPC shows its message, and of any other body nothing: the Python SDK
(mcp 2.3.0) and FastMCP say "Server returned an error response" instead.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from mcp_types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Send

from schema.common.errors import HoldfastError, RateLimited, Unauthenticated
from service.auth.caller import InsufficientScope
from service.http.rate_limit import RateLimitStatus
from service.runtime.call_observer import ERROR_META_KEY

_SDK_REFUSALS: Final = {
    HTTPStatus.BAD_REQUEST: (
        "invalid_content_type",
        "Send the message as JSON, with Content-Type: application/json.",
    ),
    HTTPStatus.FORBIDDEN: (
        "invalid_origin",
        "Pages of this origin may not call this service. HOLDFAST_ALLOWED_ORIGINS can allow it.",
    ),
    HTTPStatus.NOT_ACCEPTABLE: (
        "not_acceptable",
        "The answer is JSON or an event stream: send Accept: application/json, text/event-stream.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "request_too_large",
        "A request has at most 6 MiB, and 64 KiB without a sign-in. Send less at a time.",
    ),
    HTTPStatus.MISDIRECTED_REQUEST: (
        "invalid_host",
        "This service has another host name. Use that, or have HOLDFAST_PUBLIC_URL corrected.",
    ),
}
"""The code and the sentence for each status with which the SDK (mcp 2.3.0) refuses without JSON."""


def build_refusal(
    status: HTTPStatus,
    code: str,
    sentence: str,
    headers: Mapping[str, str],
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Build the refusal of a request whose id is not known.

    Args:
        status: of the response.
        code: a word for programs.
        sentence: what is wrong, and what to do.
        headers: added to the response.
        fields: for programs, beside the code.
    """
    error = {
        "code": INVALID_REQUEST if status < HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL_ERROR,
        "message": sentence,
        "data": {ERROR_META_KEY: {**fields, "code": code}},
    }
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status, headers)


def refuse_with_error(
    status: HTTPStatus, code: str, error: HoldfastError, headers: Mapping[str, str]
) -> Response:
    """Build the refusal for an error of ours."""
    return build_refusal(status, code, str(error), headers, error.to_dict())


def refuse_with_challenge(error: Unauthenticated | InsufficientScope, challenge: str) -> Response:
    """Build a 401 or 403 that sends a client to sign in (`WWW-Authenticate`)."""
    headers = {"www-authenticate": challenge}
    if isinstance(error, Unauthenticated):
        return refuse_with_error(HTTPStatus.UNAUTHORIZED, error.problem, error, headers)
    return refuse_with_error(HTTPStatus.FORBIDDEN, "insufficient_scope", error, headers)


def refuse_for_rate(error: RateLimited) -> Response:
    """Build a 429 that says when to come back."""
    headers = RateLimitStatus.from_refusal(error).to_headers()
    return refuse_with_error(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", error, headers)


def translate_sdk_refusals(send: Send) -> Send:
    """Send as a JSON-RPC error what the SDK refuses in bare text."""
    refusal: Response | None = None

    async def send_translated(message: Message) -> None:
        nonlocal refusal
        if message["type"] == "http.response.start":
            refusal = _translate_refusal(message)
            if refusal is not None:
                others = [
                    each for each in message["headers"] if each[0].lower() != b"content-length"
                ]
                message = {**message, "headers": [*others, *refusal.raw_headers]}
        elif refusal is not None:
            message = {"type": "http.response.body", "body": refusal.body}
        await send(message)

    return send_translated


def _translate_refusal(start: Message) -> Response | None:
    """Return what to send for a response that begins like this; None: as it is."""
    if any(name.lower() == b"content-type" for name, _ in start["headers"]):
        return None
    known = _SDK_REFUSALS.get(start["status"])
    return None if known is None else build_refusal(HTTPStatus(start["status"]), *known, {})
