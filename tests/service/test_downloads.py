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
from schema.artifacts.files import JobFile, NewFile
from schema.common import ids
from schema.common.ids import Kind
from schema.db.database import Database
from schema.jobs.tables import Job
from schema.settings import Settings
from service.runtime.confirmation_tokens import Seals
from service.runtime.derived_keys import keys
from service.runtime.download_links import Links
from tests.conftest import JobFactory
from tests.service.conftest import Start
from tests.service.lives import Worker, lived
from tests.service.stand_in import ADA, BOB, shown

MakeSettings = Callable[..., Settings]
MODEL = os.urandom(2_500_000)


@pytest.fixture
async def job(database: Database, make_job: JobFactory) -> Job:
    """A job of Ada's that left a file behind."""
    job = await lived(Worker(database), make_job, "succeeded")
    await keep(database, job, NewFile.of("model.bin", MODEL, None))
    return job


async def keep(database: Database, job: Job, *left: NewFile) -> None:
    """Keep files of a job."""
    async with database.transaction() as tx:
        await files.keep(tx, job.id, left)


async def result(url: str, job: Job) -> list[dict[str, Any]]:
    """Collect what a job left behind, as Ada."""
    view = await shown(url, "job_result", job_id=ids.write(Kind.JOB, job.id))
    left: list[dict[str, Any]] = view["files"]
    return left


async def get(url: str, link: str, method: str = "GET") -> httpx2.Response:
    """Follow a link at one service, with nothing but the link."""
    async with httpx2.AsyncClient(timeout=15) as http:
        return await http.request(method, f"{url}{urlsplit(link).path}")


def links(settings: Settings) -> Links:
    """Write links as the service with these settings would."""
    return Links("http://here", "http://hub", keys(settings, b"holdfast download"))


def file(job_id: UUID, subject_id: str = ADA, name: str = "model.bin") -> JobFile:
    return JobFile(job_id=job_id, subject_id=subject_id, name=name, size_bytes=1)


async def test_a_link_is_enough_to_download_a_file(service: str, job: Job) -> None:
    """A person opens it in a browser, and a script with curl, where no token is."""
    [told] = await result(service, job)
    [again] = await result(service, job)

    whole, head = await get(service, told["url"]), await get(service, told["url"], "HEAD")

    assert whole.status_code == head.status_code == 200
    assert whole.content == MODEL
    assert (head.content, head.headers["content-length"]) == (b"", str(len(MODEL)))
    assert whole.headers["content-disposition"].startswith('attachment; filename="model.bin";')
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["cache-control"] == "private, no-store"
    assert "set-cookie" not in whole.headers
    assert told["url"] != again["url"]
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


async def test_nothing_of_a_file_is_run_or_believed_by_a_browser(
    service: str, database: Database, job: Job
) -> None:
    """What a job left behind is somebody's, and may be anything."""
    name = 'sub/é"\r\nx: y\u202e.html'
    await keep(database, job, NewFile.of(name, b"<script>", "text/html\r\nset-cookie: a=b"))

    [told] = [each for each in await result(service, job) if each["name"] == name]
    page = await get(service, told["url"])

    assert page.content == b"<script>"
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert page.headers["content-disposition"] == (
        'attachment; filename="____x__y_.html"; '
        "filename*=UTF-8''%C3%A9%22%0D%0Ax%3A%20y%E2%80%AE.html"
    )
    assert not {"x", "set-cookie"} & page.headers.keys()


async def test_whatever_is_not_a_good_link_is_answered_with_the_same_bytes(
    service: str,
    settings: MakeSettings,
    database: Database,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody learns whether there is a file, whose it is, or how near to right a guess was."""
    ours = links(settings())
    good = ours.to(file(job.id))
    assert good is not None
    assert (await get(service, good.url)).status_code == 200
    token = good.url.rpartition("/")[2]
    flipped = [
        f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in (0, 20, 60)
    ]
    seal = Seals(keys(settings(), b"holdfast download")).write(b"", 2e9)
    other_purpose = Links("", "", keys(settings(), b"holdfast confirmation")).to(file(job.id))
    another_ring = Links("", "", [os.urandom(32)]).to(file(job.id))
    of_nothing = [
        ours.to(file(job.id, BOB)),
        ours.to(file(job.id, "")),
        ours.to(file(job.id, name="../model.bin")),
        ours.to(file(uuid4())),
    ]
    monkeypatch.setattr("service.runtime.download_links.LASTS", timedelta(seconds=-1))
    expired = ours.to(file(job.id))

    made = [other_purpose, another_ring, *of_nothing, expired]
    bad = [*flipped, seal, *(each.url.rpartition("/")[2] for each in made if each)]
    bad += [token[:-4], token[:8], f"{token}AAAA", "A", "%00", "é", "a" * 9000]
    answers = [await get(service, f"/files/{each}") for each in bad]
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM remote_run")
        await tx.execute("DELETE FROM job")
    answers.append(await get(service, good.url))

    assert len(bad) == 18
    assert {(each.status_code, each.content) for each in answers} == {(404, answers[0].content)}
    headers = [{**each.headers, "date": ""} for each in answers]
    assert all(each == headers[0] for each in headers)


async def test_a_link_outlives_a_new_key_and_dies_with_its_own(
    start: Start, settings: MakeSettings, vault_keys: str, job: Job
) -> None:
    """Rotating the ring breaks no link; taking the old key away breaks all that it sealed."""
    link = links(settings()).to(file(job.id))
    newer = "2:" + "B" * 43 + "="
    assert link is not None

    with start(vault_keys=f"{newer},{vault_keys}") as rotated:
        assert (await get(rotated, link.url)).content == MODEL
    with start(vault_keys=newer) as without:
        assert (await get(without, link.url)).status_code == 404


async def test_a_file_that_lies_at_the_hub_is_linked_to_there(
    service: str, database: Database, job: Job
) -> None:
    """Its bytes never come by us, so it is the Hub that asks who wants them."""
    there = NewFile("out.csv", 3, uri="hf://buckets/ada/b/run 1/out.csv", revision="f" * 64)
    nowhere = replace(there, name="odd", uri="s3://bucket/odd")
    await keep(database, job, there, nowhere)

    told = {each["name"]: each for each in await result(service, job)}

    assert told["out.csv"]["url"].endswith("/buckets/ada/b/resolve/run%201/out.csv")
    assert told["out.csv"]["expires_at"] is None
    assert told["odd"]["url"] is None
