"""A page of jobs is read without the megabytes that they were asked with."""

from typing import Any

import pytest

from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobFilter
from service.views.job_summary import job_title
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID

LONG = "word " * 100_000
ANY = JobFilter(None, None, None, {})


@pytest.mark.parametrize(
    ("spec", "gist"),
    [
        ({"image": "i", "command": ["true"]}, {"image": "i", "command": ["true"]}),
        ({"script": LONG, "timeout": 60.0}, {"script": LONG[:300], "timeout": 60.0}),
        ({"command": ["train", LONG, "end"]}, {"command": ["train", "end"]}),
        ({"command": ["sh", LONG]}, {"command": ["sh"]}),
        ({"env": {"AA": LONG}, "flavor": "t4-small"}, {"env": {}, "flavor": "t4-small"}),
        (
            {"inputs": [{"role": "user", "content": LONG}], "model": "m/m"},
            {"inputs": [{"content": LONG[:300]}] * 2, "model": "m/m"},
        ),
    ],
)
async def test_large_parts_of_a_request_are_left_out_where_many_jobs_are_read(
    database: Database, make_job: JobFactory, spec: dict[str, Any], gist: dict[str, Any]
) -> None:
    """One job is read whole, for it may be run again."""
    job = await make_job(spec=spec)

    async with database.transaction() as tx:
        one = await job_queries.get_job_status(tx, ADA_ID, job.id)
        [each] = (await job_queries.get_job_statuses(tx, ADA_ID, [job.id])).values()
        [listed] = await job_queries.list_jobs(tx, ADA_ID, ANY, before=None, limit=10)

    assert one is not None
    assert (one.spec, each.spec, listed.spec) == (spec, gist, gist)


async def test_a_call_is_still_known_by_what_it_was_asked(
    database: Database, make_job: JobFactory
) -> None:
    spec = {"inputs": [{"role": "user", "content": LONG}], "model": "m/m"}
    job = await make_job(kind="inference", title="m/m", spec=spec)

    async with database.transaction() as tx:
        one = await job_queries.get_job_status(tx, ADA_ID, job.id)
        [listed] = await job_queries.list_jobs(tx, ADA_ID, ANY, before=None, limit=10)

    assert one is not None
    assert job_title(listed) == job_title(one)
    assert job_title(listed).startswith("m/m: word word")
