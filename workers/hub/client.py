"""Client of the Hub's Jobs API, for the worker.

Requests, deadlines and errors are those of `schema.hub.client`.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import anyio
import httpx2

from schema.accounts.vault import Secret
from schema.common.http import UNCOMPRESSED
from schema.hub import job_reads
from schema.hub.client import (
    HubAmbiguous,
    HubClient,
    HubRequestListener,
    as_hub_errors,
    create_session,
    parse_response,
    raise_for_status,
    request_headers,
)
from schema.hub.job import JOB_ADAPTER, JOB_LIST_ADAPTER, RemoteJob
from workers.hub.log_stream import LogStreamParser

_REQUEST_TIMEOUT: Final = timedelta(seconds=15)
_FIRST_LINE_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 1.0
_END_OF_LOG_SECONDS: Final = 5.0
"""How long the log of a finished job may be silent before its end."""
_KEEP_ALIVE_PREFIX: Final = b":"


class HubJobsClient(HubClient):
    """The Hub with its Jobs API, and the address of its router."""

    def __init__(self, session: httpx2.AsyncClient, hub_url: str, router_url: str) -> None:
        super().__init__(session, hub_url)
        self.router_url = router_url.rstrip("/")

    async def create_job(
        self, namespace: str, body: dict[str, Any], token: Secret, *, timeout: timedelta
    ) -> RemoteJob:
        """Send one create request, once; the Hub may take `timeout` to answer.

        Raises:
            HubAmbiguous: a job may have been created.
            HubError: none was.
        """
        url = f"{self.url}/api/jobs/{namespace}"
        return parse_response(
            await self.send("POST", url, token, timeout=timeout, json=body), JOB_ADAPTER
        )

    async def list_jobs(
        self, namespace: str, token: Secret, *, label: str, stages: tuple[str, ...] = ()
    ) -> list[RemoteJob]:
        """Return every job with a label (`key=value`), newest first: all pages, or an error."""
        params: Mapping[str, Any] | None = {"label": label, "stage": list(stages)}
        url: str | None = f"{self.url}/api/jobs/{namespace}"
        jobs: list[RemoteJob] = []
        while url is not None:
            response = await self.send("GET", url, token, timeout=_REQUEST_TIMEOUT, params=params)
            page: list[RemoteJob] = parse_response(response, JOB_LIST_ADAPTER)
            jobs += page
            url, params = self.next_page_url(response), None
        return jobs

    async def inspect_job(self, namespace: str, remote_id: str, token: Secret) -> RemoteJob | None:
        """Return one job; None if the Hub has no such job."""
        return await job_reads.inspect_job(
            self, namespace, remote_id, token, timeout=_REQUEST_TIMEOUT
        )

    async def cancel_job(self, namespace: str, remote_id: str, token: Secret) -> None:
        """Ask the Hub to stop a job; it is harmless to repeat this, or to stop a finished job."""
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/cancel"
        await self.send("POST", url, token, timeout=_REQUEST_TIMEOUT)

    async def stream_log(
        self,
        namespace: str,
        remote_id: str,
        token: Secret,
        *,
        max_line_chars: int,
        is_finished: bool,
    ) -> AsyncGenerator[list[str]]:
        """Yield the lines of a log from its start, in groups, without the lines of the Hub itself.

        The log of a running job ends here once nothing has been written for a second; the log of
        a finished job has an end of its own. Of a line longer than `max_line_chars`,
        the middle may be left out.

        Raises:
            HubAmbiguous: the stream broke off, or the log of a finished job fell silent.
        """
        url = f"{self.url}/api/jobs/{namespace}/{remote_id}/logs"
        headers = {**request_headers(token), **UNCOMPRESSED}
        parser = LogStreamParser(max_line_chars)
        with as_hub_errors():
            async with self.session.stream("GET", url, headers=headers) as response:
                raise_for_status(response)
                async with aclosing(_read_until_idle(response, is_finished=is_finished)) as chunks:
                    async for chunk in chunks:
                        if lines := parser.feed(chunk):
                            yield lines


@asynccontextmanager
async def open_hub_jobs_client(
    hub_url: str, router_url: str, *, on_request: HubRequestListener | None = None
) -> AsyncGenerator[HubJobsClient]:
    """Open a client of the Hub and its Jobs API."""
    async with create_session(on_request=on_request) as session:
        yield HubJobsClient(session, hub_url, router_url)


async def _read_until_idle(
    response: httpx2.Response, *, is_finished: bool
) -> AsyncGenerator[bytes]:
    """Yield the chunks of a stream until it ends, or sends nothing more for now."""
    stream = response.aiter_bytes()
    deadline = anyio.current_time() + _FIRST_LINE_SECONDS
    while True:
        chunk: bytes | None = None
        with anyio.move_on_after(deadline - anyio.current_time()) as scope:
            chunk = await anext(stream, None)
        if chunk is None:
            if is_finished and scope.cancelled_caught:
                raise HubAmbiguous("the log fell silent before its end")
            return
        yield chunk
        if not chunk.startswith(_KEEP_ALIVE_PREFIX):
            pause = _END_OF_LOG_SECONDS if is_finished else _IDLE_SECONDS
            deadline = anyio.current_time() + pause
