"""A job is found by the words that a person remembers of it."""

from typing import Any, Final
from uuid import UUID

import pytest

from schema.db.database import Database
from schema.jobs import search
from schema.jobs.queries import JobFilter
from schema.jobs.run_end import RunResult
from schema.jobs.search import JobList
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.jobs.job_states import RunDriver
from tests.support.subjects import ADA_ID, BOB_ID

HOSTILE_WORDS: Final = (
    *("%", "_", "100%_", "\\", "\\d+", ".*", "a.c", "[a-z]", "(a", "a)", "{3}", "a|b", "^a", "$"),
    *("***=x", "(?i)x", "+", "?", "'", "''; DROP TABLE job; --", '"', '\\"', "$1", ":name", "\x01"),
    *("é", "🙂", "\u2028", "İ", "ß", "\u03c3"),  # a small sigma
)


async def search_page(
    database: Database,
    *words: str,
    labels: dict[str, str] | None = None,
    kind: str | None = None,
    subject_id: str = ADA_ID,
    before: UUID | None = None,
    limit: int = 100,
    limits: dict[str, int] | None = None,
) -> JobList:
    job_filter = JobFilter(None, None, kind, labels or {}, words=words)
    async with database.transaction() as tx:
        return await search.search_jobs(
            tx, subject_id, job_filter, before=before, limit=limit, **(limits or {})
        )


async def search_ids(database: Database, *words: str, **options: Any) -> list[UUID]:
    return [job.id for job in (await search_page(database, *words, **options)).jobs]


async def test_a_job_is_found_by_what_is_known_of_it(
    database: Database, make_job: JobFactory
) -> None:
    """Its name, its labels, what it runs, and why it failed, each in upper or lower case."""
    run_driver = RunDriver(database)
    failed = await make_job()
    run_id = await run_driver.start_run()
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.OOM, "Disk quota of ORG exceeded")
    )
    command = await make_job(
        title="Nightly Évaluation",
        labels={"team": "nlp", "experiment": "bert-17"},
        spec={
            "image": "pytorch/pytorch:2.6",
            "command": ["python", "-c", 'print("Zürich")', "--epochs=3"],
            "flavor": "a10g-small",
            "env": {"PASSWORD": "swordfish"},
        },
    )
    script = await make_job(
        spec={"image": "uv", "script": "import trl\nSFTTrainer()", "dependencies": ["trl==1.0"]}
    )
    call = await make_job(
        kind=JobKind.INFERENCE,
        title="m/m",
        spec={"model": "meta/Llama-3", "inputs": [{"role": "user", "content": "Name 3 rivers"}]},
    )
    space = await make_job(
        kind=JobKind.SPACE_CALL,
        spec={"space": "ada/upscaler", "api_name": "/run", "arguments": {"factor": "fourfold"}},
    )

    for job_id, phrases in {
        failed.id: ["disk QUOTA", "oom"],
        command.id: [
            *("nightly évaluation", "NIGHTLY ÉVALUATION", "team=nlp", "nlp BERT-17"),
            *("pytorch:2.6", 'print("zürich")', "ZÜRICH epochs", "a10g-small nightly"),
        ],
        script.id: ["sfttrainer trl==1.0"],
        call.id: ["llama-3 rivers", "user"],
        space.id: ["upscaler", "/RUN FOURFOLD"],
    }.items():
        for phrase in phrases:
            assert await search_ids(database, *phrase.split()) == [job_id], phrase
    assert await search_ids(database, "nightly", "rivers") == []
    assert await search_ids(database, "python:3.12") == [space.id, script.id, failed.id]


async def test_what_may_be_a_secret_is_not_searched(
    database: Database, make_job: JobFactory
) -> None:
    """People write into env what should be a secret; no answer says which jobs have it."""
    await make_job(
        spec={
            "image": "i",
            "command": ["true"],
            "env": {"PASSWORD": "swordfish"},
            "secrets": ["SECRETNAME"],
        }
    )

    for word in ("swordfish", "PASSWORD", "SECRETNAME"):
        assert await search_ids(database, word) == []


async def test_every_character_stands_for_itself(database: Database, make_job: JobFactory) -> None:
    """Neither as a pattern, nor as SQL, in a text and in a list."""
    expected: dict[str, list[UUID]] = {}
    for number, word in enumerate(HOSTILE_WORDS):
        text = f"x{word}y{number}z"
        titled = await make_job(title=text)
        listed = await make_job(title="t", spec={"image": "i", "command": ["echo", text]})
        expected[text] = [listed.id, titled.id]

    by_text = {text: await search_ids(database, text) for text in expected}

    assert by_text == expected


@pytest.mark.parametrize("labels", [{}, {"team": "nlp"}], ids=len)
async def test_each_match_is_on_one_page_wherever_searches_stop(
    database: Database, make_job: JobFactory, labels: dict[str, str]
) -> None:
    """The end of a search is the cursor of the next, until all was read."""
    made = [
        await make_job(
            title="wanted" if number % 3 == 0 else "other",
            labels={"team": "cv" if number == 6 else "nlp"},
            spec={"image": "i", "command": ["x" * (3000 if number == 4 else 10)]},
        )
        for number in range(10)
    ]
    expected = [job.id for job in reversed(made[::3]) if not labels or job is not made[6]]
    all_limits: list[dict[str, int]] = [
        {"max_searched": 2},
        {"max_searched": 100},
        {"max_bytes": 50},
    ]
    for limits in all_limits:
        pages: list[JobList] = []
        while not pages or pages[-1].end is not None:
            before = pages[-1].end.job_id if pages and pages[-1].end else None
            pages.append(
                await search_page(database, "WANTED", labels=labels, before=before, limits=limits)
            )

        assert [job.id for page in pages for job in page.jobs] == expected
        assert len(pages) > 3 or limits == {"max_searched": 100}
        assert all(page.end is None or page.end.searched <= 2 for page in pages)


async def test_a_page_ends_where_it_is_full(database: Database, make_job: JobFactory) -> None:
    """Then nothing was left out: what follows is older than its last job."""
    made = [await make_job(title="wanted") for _ in range(5)]

    page = await search_page(database, "wanted", limit=2, limits={"max_searched": 4})

    assert ([job.id for job in page.jobs], page.end) == ([made[4].id, made[3].id], None)


async def test_other_filters_hold_beside_the_words(
    database: Database, make_job: JobFactory
) -> None:
    job = await make_job(title="wanted")
    call = await make_job(title="wanted", kind=JobKind.INFERENCE, spec={"model": "m/m"})
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'bob')", BOB_ID)

    assert await search_ids(database, "wanted", kind="inference") == [call.id]
    assert await search_ids(database, "wanted", before=call.id) == [job.id]
    assert await search_ids(database, "wanted", subject_id=BOB_ID) == []
    assert await search_ids(database) == [call.id, job.id]
