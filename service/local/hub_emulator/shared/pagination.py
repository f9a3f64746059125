"""Pages of a listing, with the URL of the next page in the `link` header."""

from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import HubApiError

_PAGE_SIZE: Final = 100


def paginate(request: Request, entries: list[dict[str, Any]]) -> Response:
    """Answer with the page that the request's cursor names; the cursor is an offset."""
    cursor = request.query_params.get("cursor", "0")
    if not (cursor.isascii() and cursor.isdigit()):
        raise HubApiError(HTTPStatus.BAD_REQUEST, "cursor: Invalid")
    start = int(cursor)
    end = start + _PAGE_SIZE
    headers = next_page_headers(request, str(end)) if len(entries) > end else {}
    return JSONResponse(entries[start:end], headers=headers)


def next_page_headers(request: Request, cursor: str) -> dict[str, str]:
    """Build the header that links to the page after this one."""
    return {"link": f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'}
