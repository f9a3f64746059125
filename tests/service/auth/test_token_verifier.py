"""Who is calling, how long that is believed, and what is kept of their token."""

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from starlette.responses import Response

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.common.async_cache import AsyncCache, CacheEntry
from schema.db.database import Database
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    post_message,
    read_refusal,
)
from tests.support.subjects import ADA_ID, BOB_ID


class CountingSource(BaseModel):
    """Counts how often it is asked."""

    call_count: int = 0
    lifetime: timedelta = timedelta(minutes=1)

    async def ask(self) -> CacheEntry[int]:
        """Answer how often."""
        self.call_count += 1
        return CacheEntry(self.call_count, self.lifetime)


async def test_callers_who_come_together_are_verified_by_one_question(
    service_url: str, fake_hub: FakeHub
) -> None:
    """The Hub limits whoami strictly; a burst from one client is one question."""
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(post_message, service_url, "tools/list")
    await post_message(service_url, "tools/list")

    assert fake_hub.whoami_tokens == ["hf_ada"]


async def test_a_question_under_way_is_not_asked_again() -> None:
    """Whoever comes meanwhile waits for the answer, also if the first to ask goes away."""
    cache: AsyncCache[str] = AsyncCache(max_entries=10)
    questions: list[str] = []
    asking, release = anyio.Event(), anyio.Event()

    async def ask() -> CacheEntry[str]:
        questions.append("whose?")
        asking.set()
        await release.wait()
        return CacheEntry("ada", timedelta(minutes=1))

    answers: list[str] = []

    async def get() -> None:
        answers.append(await cache.get_or_load(b"t", ask))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(get)
            await asking.wait()
            await anyio.wait_all_tasks_blocked()
            release.set()

    assert (answers, questions) == (["ada"] * 5, ["whose?"])


async def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    """A revoked token is believed for a minute at most."""
    cache: AsyncCache[int] = AsyncCache(max_entries=10)
    brief, long = CountingSource(lifetime=timedelta(0)), CountingSource()

    assert [await cache.get_or_load(b"a", brief.ask) for _ in range(2)] == [1, 2]
    assert [await cache.get_or_load(b"b", long.ask) for _ in range(2)] == [1, 1]


async def test_only_the_latest_callers_are_remembered() -> None:
    """Any number of made-up tokens fits into the same memory."""
    cache: AsyncCache[int] = AsyncCache(max_entries=2)
    oracle = CountingSource()

    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await cache.get_or_load(key, oracle.ask)

    assert oracle.call_count == 4


async def test_a_callers_token_is_kept_sealed_for_their_jobs(
    service_url: str, database: Database, vault: Vault
) -> None:
    """Workers act with the caller's own authority, long after the call; nobody else reads it."""
    await post_message(service_url, "tools/list")

    async with database.transaction() as tx:
        lent = await credentials.load_token(tx, vault, ADA_ID)
        row = await tx.fetchrow("SELECT * FROM credential")
    assert lent is not None
    assert lent.token.reveal() == "hf_ada"
    assert row is not None
    assert b"hf_ada" not in row["sealed"]


async def test_what_the_hub_remembers_of_one_caller_does_not_go_along_with_another(
    service_url: str, fake_hub: FakeHub
) -> None:
    """One session asks about everybody; with a cookie of Ada's, Bob might be taken for her."""
    for token in ("hf_ada", "hf_bob", "hf_reader"):
        await post_message(service_url, "tools/list", authorization=f"Bearer {token}")

    assert len(fake_hub.whoami_tokens) == 3
    assert fake_hub.received_cookies == []


async def test_a_read_only_token_is_not_kept(service_url: str, database: Database) -> None:
    """It could do nothing for a job, and would push out one that can."""
    await post_message(service_url, "tools/list", authorization="Bearer hf_reader")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM credential") == 0


async def test_a_renamed_person_keeps_their_jobs(service_url: str, fake_hub: FakeHub) -> None:
    """Names can be changed and taken by others; rows belong to the id."""
    job = await call_for_result(service_url, "launch_job", image="python:3.12", command="true")
    fake_hub.whoami_by_token["hf_new"] = whoami_answer(ADA_ID, "ada-lovelace")
    fake_hub.whoami_by_token["hf_thief"] = whoami_answer(BOB_ID, "ada")

    [view] = (
        await call_for_result(
            service_url, "job_status", caller_token="hf_new", job_ids=job["job_id"]
        )
    )["jobs"]
    stolen = await call_tool(
        service_url, "job_status", caller_token="hf_thief", job_ids=job["job_id"]
    )

    assert view["job_id"] == job["job_id"]
    assert read_refusal(stolen)["code"] == "NotFound"


async def test_an_expired_token_is_not_believed(service_url: str, fake_hub: FakeHub) -> None:
    """Whatever the Hub's clock says to whoami, the expiry it states is the end."""
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    fake_hub.whoami_by_token["hf_old"] = whoami_answer(ADA_ID, "ada", type="oauth", expiresAt=past)

    assert (
        await post_message(service_url, "tools/list", authorization="Bearer hf_old")
    ).status_code == 401


async def test_a_token_is_believed_no_longer_than_it_lives(
    service_url: str, fake_hub: FakeHub
) -> None:
    """The minute is an upper bound, not a gift."""
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    fake_hub.whoami_by_token["hf_brief"] = whoami_answer(
        ADA_ID, "ada", type="oauth", expiresAt=soon.isoformat()
    )
    status = 200
    with anyio.fail_after(10):
        while status == 200:
            response = await post_message(
                service_url, "tools/list", authorization="Bearer hf_brief"
            )
            status = response.status_code

    assert status == 401
    assert datetime.now(UTC) >= soon
    assert fake_hub.whoami_tokens == ["hf_brief", "hf_brief"]


@pytest.mark.parametrize("kind", ["org", "app"])
async def test_holdfast_acts_for_people_only(
    service_url: str, fake_hub: FakeHub, kind: str
) -> None:
    """An organisation's legacy token says nothing about who is calling."""
    fake_hub.whoami_by_token["hf_other"] = {"type": kind, "name": "acme"}

    assert (
        await post_message(service_url, "tools/list", authorization="Bearer hf_other")
    ).status_code == 401


async def test_an_answer_that_cannot_be_read_lets_nobody_in(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A subject is 24 hexadecimal digits, or it is not one."""
    fake_hub.whoami_by_token["hf_odd"] = whoami_answer("1; drop table job", "odd")

    assert (
        await post_message(service_url, "tools/list", authorization="Bearer hf_odd")
    ).status_code == 503


async def test_a_known_wrong_token_is_not_asked_about_at_once_again(
    service_url: str, fake_hub: FakeHub
) -> None:
    """A client in a loop does not use up the Hub's patience with us."""
    for _ in range(3):
        await post_message(service_url, "tools/list", authorization="Bearer hf_stale")

    assert fake_hub.whoami_tokens == ["hf_stale"]


async def test_any_call_of_theirs_brings_the_token_that_held_jobs_wait_for(
    service_url: str, fake_hub: FakeHub, database: Database, vault: Vault, make_job: JobFactory
) -> None:
    """Looking is enough: whoever asks how a held job stands has just released it."""
    fake_hub.whoami_by_token["hf_fresh"] = whoami_answer(ADA_ID, "ada")
    await call_for_result(service_url, "list_jobs", caller_token="hf_fresh")
    await make_job()
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_dead"), expires_at=None
        )
        await credentials.mark_credential_refused(tx, ADA_ID, version=2)
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"

    [view] = (await call_for_result(service_url, "list_jobs", caller_token="hf_fresh"))["jobs"]

    async with database.transaction() as tx:
        lent = await credentials.load_token(tx, vault, ADA_ID)
    assert view["hold"] is None
    assert lent is not None
    assert lent.token.reveal() == "hf_fresh"


async def test_a_call_with_the_dead_token_itself_is_told_to_sign_in_again(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """It is believed for a minute as a rule, but not once a worker has seen it refused."""
    await call_for_result(service_url, "list_jobs")
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)
    del fake_hub.whoami_by_token["hf_ada"]

    answer = await call_tool(service_url, "list_jobs")
    after = await post_message(service_url, "tools/list")

    assert read_refusal(answer)["code"] == "Unauthenticated"
    assert after.status_code == 401
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"


async def test_a_held_subject_can_read_while_the_hub_is_away(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """Nobody can say whether the token is good, but it was a moment ago."""
    async with open_mcp_client(service_url) as client:
        await client.call_tool("list_jobs", {})
        async with database.transaction() as tx:
            await credentials.mark_credential_refused(tx, ADA_ID, version=1)
        fake_hub.failure_response = Response(status_code=503)
        answer = await client.call_tool("list_jobs", {})

    assert not answer.is_error


async def test_a_reading_token_releases_nothing(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """It could do nothing for a job."""
    await call_for_result(service_url, "list_jobs")
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    await call_for_result(service_url, "list_jobs", caller_token="hf_reader")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"


async def test_a_secret_of_a_job_is_sealed_and_shown_to_nobody(
    service_url: str, database: Database, vault: Vault
) -> None:
    """Write-only: the one who gave it cannot read it back either."""
    view = await call_for_result(
        service_url,
        "launch_job",
        image="python:3.12",
        command="true",
        secrets={"API_KEY": "canary-77"},
        pass_token=True,
    )

    async with database.transaction() as tx:
        job_id = ids.parse_handle(ids.HandleKind.JOB, view["job_id"])
        secrets = await sealed_secrets.open_job_secrets(tx, vault, job_id)
        spec = await tx.fetchval("SELECT spec::text FROM job_payload")
    assert secrets["API_KEY"].reveal() == "canary-77"
    assert "canary-77" not in spec + str(view)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": {"AB": "1"}, "secrets": {"AB": "2"}}, "AB is both in env and in secrets"),
        ({"secrets": {"HF_TOKEN": "x"}, "pass_token": True}, "choose one of them"),
        ({"secrets": {"1A": "x"}}, "not a name the Hub takes"),
        ({"secrets": "KEY=canary"}, "secrets: "),
        ({"secrets": {"KEY": ["canary"]}}, "secrets.KEY: "),
    ],
)
async def test_secrets_that_cannot_be_meant_are_refused_with_what_to_do(
    service_url: str, arguments: dict[str, Any], message: str
) -> None:
    """And the answer repeats no value."""
    answer = await call_tool(
        service_url, "launch_job", image="python:3.12", command="true", **arguments
    )

    assert message in answer_text(answer)
    assert "canary" not in answer_text(answer)
