"""Finding a job again among many, by what is known of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schema.common import ids, timestamps
from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.db.database import Database
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID, EVE_ID


@pytest.fixture
async def jobs_by_age(database: Database, make_job: JobFactory) -> list[str]:
    """Four jobs: of now, of an hour, a day and a week ago."""
    made = [await make_job() for _ in range(4)]
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")  # it is no move
        for job, hours in zip(made, (0, 1, 24, 168), strict=True):
            ago = timedelta(hours=hours)
            await tx.execute(
                "UPDATE job SET created_at = created_at - $2::interval WHERE id = $1", job.id, ago
            )
    return [job_handle(job.id) for job in made]


async def listed(service: str, **filters: Any) -> set[str]:
    return {
        job["job_id"] for job in (await call_for_result(service, "list_jobs", **filters))["jobs"]
    }


async def test_jobs_are_found_by_their_age(service_url: str, jobs_by_age: list[str]) -> None:
    """ "The one from yesterday" is how people remember."""
    now, hour, day, week = jobs_by_age
    moment = (datetime.now(UTC) - timedelta(hours=12)).isoformat()

    assert await listed(service_url, since="30m") == {now}
    assert await listed(service_url, since=7200) == {now, hour}
    assert await listed(service_url, until="2h") == {day, week}
    assert await listed(service_url, since="2d", until="30m") == {hour, day}
    assert await listed(service_url, since=moment) == {now, hour}
    assert await listed(service_url, until=moment) == {day, week}
    assert await listed(service_url, since="1000000000h") == set(jobs_by_age)
    assert await listed(service_url, since="2020-01-01", until="2020-01-02") == set()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"since": "yesterday"}, "is not a point in time; write how long ago"),
        ({"since": "0s"}, "is not a point in time"),
        ({"since": "1h", "until": "2h"}, "until is before since"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "until is before since"),
        ({"workspace_id": ""}, "is not a workspace handle"),
        ({"rerun_of": ""}, "is not a job handle"),
        ({"schedule_id": ""}, "is not a schedule handle"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(
    service_url: str, filters: dict[str, Any], message: str
) -> None:
    """A list of everything would look like an answer."""
    answer = await call_tool(service_url, "list_jobs", **filters)

    assert read_refusal(answer)["code"] == "Invalid"
    assert message in answer_text(answer)


async def test_jobs_of_a_new_executor_are_listed_by_its_kind(
    service_url: str, make_job: JobFactory
) -> None:
    """An executor is one file, so no list of kinds can know it: its jobs do."""
    await make_job()
    paused = await make_job(kind="pause", spec={"steps": 3})

    page = await call_for_result(service_url, "list_jobs", kind="pause")

    assert [job["job_id"] for job in page["jobs"]] == [job_handle(paused.id)]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("hub_jbo", "Did you mean hub_job?"), ("pause", "hub_job, inference, batch, space_call.")],
)
async def test_a_kind_that_no_job_has_is_answered_with_those_there_are(
    service_url: str, database: Database, make_job: JobFactory, kind: str, sentence: str
) -> None:
    """An empty page would read as if the jobs were gone. Another's job proves no kind to you."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    await make_job(subject_id=EVE_ID, kind="pause", spec={"steps": 3})

    answer = await call_tool(service_url, "list_jobs", kind=kind)

    assert read_refusal(answer)["code"] == "Invalid"
    assert sentence in answer_text(answer)


async def test_pages_of_a_filtered_list_have_each_job_once(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Also where most of what lies between is left out."""
    workspace = (await call_for_result(service_url, "create_workspace", name="w"))["workspace_id"]
    inside = ids.parse_handle(HandleKind.WORKSPACE, workspace)
    expected_ids: list[str] = []
    for number in range(12):
        fits = number % 3 == 0
        job = await make_job(
            workspace_id=inside if fits or number % 2 else None,
            labels={"team": "nlp"} if fits else {"team": "cv"},
        )
        expected_ids += [job_handle(job.id)] if fits else []
    filters: dict[str, Any] = {
        "workspace_id": workspace,
        "labels": {"team": "nlp"},
        "state": "queued",
        "kind": "hub_job",
        "since": "1h",
        "limit": 3,
    }

    first = await call_for_result(service_url, "list_jobs", **filters)
    rest = await call_for_result(service_url, "list_jobs", **filters, cursor=first["next_cursor"])

    listed_ids = [job["job_id"] for job in first["jobs"] + rest["jobs"]]
    assert listed_ids == expected_ids[::-1]
    assert rest["next_cursor"] is None


async def test_a_search_that_stops_says_where_and_how_to_go_on(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """It reads 10,000 jobs; a person with more of them is not kept waiting, and not misled."""
    old = await make_job(title="the one with rivers")
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")
        await tx.execute(
            """
            WITH made AS (
                INSERT INTO job (id, subject_id, kind, namespace, title)
                SELECT ('ffffffff-ffff-7fff-8fff-' || lpad(to_hex(number), 12, '0'))::uuid,
                       $1, 'hub_job', 'ada', 'other'
                  FROM generate_series(1, 10001) AS number
                RETURNING id
            )
            INSERT INTO job_payload (job_id, spec) SELECT id, '{"image": "i"}' FROM made
            """,
            ADA_ID,
        )

    first = await call_tool(service_url, "list_jobs", text="RIVERS one")
    view = first.structured_content
    assert view is not None
    second = await call_for_result(
        service_url, "list_jobs", text="RIVERS one", cursor=view["next_cursor"]
    )

    async with database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")
        await tx.execute("DELETE FROM job_payload WHERE job_id <> $1", old.id)
        await tx.execute("DELETE FROM job WHERE id <> $1", old.id)  # which no transition made
    assert (view["jobs"], view["searched_until"] is None) == ([], False)
    assert "No job of yours matches among the newest 10,000 searched, back to 20" in (
        answer_text(first)
    )
    assert f'go on with cursor="{view["next_cursor"]}".' in answer_text(first)
    assert [job["job_id"] for job in second["jobs"]] == [job_handle(old.id)]
    assert (second["next_cursor"], second["searched_until"]) == (None, None)


async def test_a_text_to_search_for_is_short_and_can_be_stored(service_url: str) -> None:
    """A refusal says so; blanks alone are no words."""
    long = await call_tool(service_url, "list_jobs", text="x" * 10_000)
    nul = await call_tool(service_url, "list_jobs", text="a\0b")
    blank = await call_for_result(service_url, "list_jobs", text="  ")

    assert "200" in answer_text(long)
    assert "a NUL character" in answer_text(nul)
    assert {read_refusal(long)["code"], read_refusal(nul)["code"]} == {"Invalid"}
    assert blank["jobs"] == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2h", timedelta(hours=2)),
        (90, timedelta(seconds=90)),
        ("20261121", timedelta(seconds=20261121)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        (" 2026-11-21T10:00:00Z ", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21T10:00+02:00", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("9999d", timedelta(days=9999)),
        ("999999d", timedelta(days=36500)),
    ],
)
def test_a_moment_is_read_as_people_write_it(
    written: object, expected: datetime | timedelta
) -> None:
    """What names no zone is UTC, and a bare number counts seconds, as everywhere."""
    assert timestamps.parse_timestamp_or_age(written) == expected


@pytest.mark.parametrize("written", ["", "now", True, None, "-1h", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_says_how_to_write_one(written: object) -> None:
    """The last of these is before the first year there is."""
    with pytest.raises(ValueError, match="2026-11-21T10:00:00Z"):
        timestamps.parse_timestamp_or_age(written)


def test_moments_that_cannot_be_compared_are_left_to_the_database() -> None:
    """Whether two days ago is before a date depends on what day it is there."""
    timestamps.expect_since_before_until(timedelta(days=2), datetime(2026, 11, 21, tzinfo=UTC))
    timestamps.expect_since_before_until(None, timedelta(days=2))
    with pytest.raises(Invalid):
        timestamps.expect_since_before_until(timedelta(days=1), timedelta(days=2))
