"""Links to the files of a job: who gets the bytes, for how long, and what everybody else gets."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest

from schema.artifacts import files
from schema.artifacts.files import JobFile, NewJobFile
from schema.db.database import Database
from schema.jobs.tables import Job
from schema.settings import Settings
from service.runtime.sealed_tokens import (
    LINK_LIFETIME,
    ConfirmationTokens,
    DownloadLinks,
    derive_keys,
)
from tests.support.factories import JobFactory, StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import call_for_result
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_ID, BOB_ID

MakeSettings = Callable[..., Settings]
MODEL_BYTES = os.urandom(2_500_000)


@pytest.fixture
async def job_with_file(database: Database, make_job: JobFactory) -> Job:
    """A job of Ada's that left a file behind."""
    job = await make_job_with_history(RunDriver(database), make_job, "succeeded")
    await store_files(database, job, NewJobFile.from_content("model.bin", MODEL_BYTES, None))
    return job


async def store_files(database: Database, job: Job, *left: NewJobFile) -> None:
    """Keep files of a job."""
    async with database.transaction() as tx:
        await files.save_files(tx, job.id, left)


async def read_result(url: str, job: Job) -> list[dict[str, Any]]:
    """Collect what a job left behind, as Ada."""
    view = await call_for_result(url, "job_result", job_id=job_handle(job.id))
    left: list[dict[str, Any]] = view["files"]
    return left


async def follow_link(url: str, link: str, method: str = "GET") -> httpx2.Response:
    """Follow a link at one service, with nothing but the link."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.request(method, f"{url}{urlsplit(link).path}")


def make_links(settings: Settings, *, lifetime: timedelta = LINK_LIFETIME) -> DownloadLinks:
    """Write links as the service with these settings would."""
    keys = derive_keys(settings, b"holdfast download")
    return DownloadLinks("http://here", "http://hub", keys, lifetime=lifetime)


def make_file(job_id: UUID, subject_id: str = ADA_ID, name: str = "model.bin") -> JobFile:
    return JobFile(job_id=job_id, subject_id=subject_id, name=name, size_bytes=1)


async def test_a_link_is_enough_to_download_a_file(service_url: str, job_with_file: Job) -> None:
    """A person opens it in a browser, and a script with curl, where no token is."""
    [link] = await read_result(service_url, job_with_file)
    [again] = await read_result(service_url, job_with_file)

    whole, head = (
        await follow_link(service_url, link["url"]),
        await follow_link(service_url, link["url"], "HEAD"),
    )

    assert whole.status_code == head.status_code == 200
    assert whole.content == MODEL_BYTES
    assert (head.content, head.headers["content-length"]) == (b"", str(len(MODEL_BYTES)))
    assert whole.headers["content-disposition"].startswith('attachment; filename="model.bin";')
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["cache-control"] == "private, no-store"
    assert "set-cookie" not in whole.headers
    assert link["url"] != again["url"]
    left = datetime.fromisoformat(link["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


async def test_nothing_of_a_file_is_run_or_believed_by_a_browser(
    service_url: str, database: Database, job_with_file: Job
) -> None:
    """What a job left behind is somebody's, and may be anything."""
    name = 'sub/é"\r\nx: y\u202e.html'
    await store_files(
        database,
        job_with_file,
        NewJobFile.from_content(name, b"<script>", "text/html\r\nset-cookie: a=b"),
    )

    [link] = [
        each for each in await read_result(service_url, job_with_file) if each["name"] == name
    ]
    page = await follow_link(service_url, link["url"])

    assert page.content == b"<script>"
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert page.headers["content-disposition"] == (
        'attachment; filename="____x__y_.html"; '
        "filename*=UTF-8''%C3%A9%22%0D%0Ax%3A%20y%E2%80%AE.html"
    )
    assert not {"x", "set-cookie"} & page.headers.keys()


async def test_whatever_is_not_a_good_link_is_answered_with_the_same_bytes(
    service_url: str, make_settings: MakeSettings, database: Database, job_with_file: Job
) -> None:
    """Nobody learns whether there is a file, whose it is, or how near to right a guess was."""
    ours = make_links(make_settings())
    good = ours.link_to(make_file(job_with_file.id))
    assert good is not None
    assert (await follow_link(service_url, good.url)).status_code == 200
    token = good.url.rpartition("/")[2]
    flipped = [
        f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in (0, 20, 60)
    ]
    seal = ConfirmationTokens(derive_keys(make_settings(), b"holdfast download")).issue(b"", 2e9)
    other_purpose = DownloadLinks(
        "", "", derive_keys(make_settings(), b"holdfast confirmation")
    ).link_to(make_file(job_with_file.id))
    another_ring = DownloadLinks("", "", [os.urandom(32)]).link_to(make_file(job_with_file.id))
    of_nothing = [
        ours.link_to(make_file(job_with_file.id, BOB_ID)),
        ours.link_to(make_file(job_with_file.id, "")),
        ours.link_to(make_file(job_with_file.id, name="../model.bin")),
        ours.link_to(make_file(uuid4())),
    ]
    expired = make_links(make_settings(), lifetime=timedelta(seconds=-1)).link_to(
        make_file(job_with_file.id)
    )

    made = [other_purpose, another_ring, *of_nothing, expired]
    bad = [*flipped, seal, *(each.url.rpartition("/")[2] for each in made if each)]
    bad += [token[:-4], token[:8], f"{token}AAAA", "A", "%00", "é", "a" * 9000]
    answers = [await follow_link(service_url, f"/files/{each}") for each in bad]
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM remote_run")
        await tx.execute("DELETE FROM job")
    answers.append(await follow_link(service_url, good.url))

    assert len(bad) == 18
    assert {(each.status_code, each.content) for each in answers} == {(404, answers[0].content)}
    headers = [{**each.headers, "date": ""} for each in answers]
    assert all(each == headers[0] for each in headers)


async def test_a_link_outlives_a_new_key_and_dies_with_its_own(
    start_service: StartService, make_settings: MakeSettings, vault_keys: str, job_with_file: Job
) -> None:
    """Rotating the ring breaks no link; taking the old key away breaks all that it sealed."""
    link = make_links(make_settings()).link_to(make_file(job_with_file.id))
    newer = "2:" + "B" * 43 + "="
    assert link is not None

    with start_service(vault_keys=f"{newer},{vault_keys}") as rotated:
        assert (await follow_link(rotated, link.url)).content == MODEL_BYTES
    with start_service(vault_keys=newer) as without:
        assert (await follow_link(without, link.url)).status_code == 404


async def test_a_file_that_lies_at_the_hub_is_linked_to_there(
    service_url: str, database: Database, job_with_file: Job
) -> None:
    """Its bytes never come by us, so it is the Hub that asks who wants them."""
    there = NewJobFile("out.csv", 3, uri="hf://buckets/ada/b/run 1/out.csv", revision="f" * 64)
    nowhere = replace(there, name="odd", uri="s3://bucket/odd")
    await store_files(database, job_with_file, there, nowhere)

    links = {each["name"]: each for each in await read_result(service_url, job_with_file)}

    assert links["out.csv"]["url"].endswith("/buckets/ada/b/resolve/run%201/out.csv")
    assert links["out.csv"]["expires_at"] is None
    assert links["odd"]["url"] is None
