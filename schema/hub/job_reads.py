"""Reads of the Hub's Jobs API that both processes make: one job, and one page of a listing."""

from datetime import timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from schema.accounts.vault import Secret
from schema.hub.client import HubClient, HubRejected, parse_response
from schema.hub.job import JOB_ADAPTER, JOB_LIST_ADAPTER, RemoteJob

_CURSOR: Final = "cursor"


async def inspect_job(
    hub: HubClient, namespace: str, remote_id: str, token: Secret, *, timeout: timedelta
) -> RemoteJob | None:
    """Return one job; None if the Hub has no such job.

    Raises:
        HubError: there is no readable answer.
    """
    url = f"{hub.url}/api/jobs/{quote(namespace, safe='')}/{quote(remote_id, safe='')}"
    try:
        return parse_response(await hub.send("GET", url, token, timeout=timeout), JOB_ADAPTER)
    except HubRejected as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


async def list_job_page(
    hub: HubClient, namespace: str, token: Secret, *, cursor: str | None, timeout: timedelta
) -> tuple[list[RemoteJob], str | None]:
    """Return a page of the jobs in a namespace, newest first, and the cursor of the next page.

    Only the cursor of the Hub's link is used, so no URL of anybody's is ever requested.

    Raises:
        HubError: there is no readable answer.
    """
    url = f"{hub.url}/api/jobs/{quote(namespace, safe='')}"
    params = {} if cursor is None else {_CURSOR: cursor}
    response = await hub.send("GET", url, token, timeout=timeout, params=params)
    jobs: list[RemoteJob] = parse_response(response, JOB_LIST_ADAPTER)
    next_url = hub.next_page_url(response)
    cursors = [] if next_url is None else parse_qs(urlsplit(next_url).query).get(_CURSOR, [])
    return jobs, cursors[-1] if cursors else None
