"""Bob asks about Ada's tasks, and listens at her doors: he learns nothing, and changes nothing."""

import base64
import json
from typing import Any

import pytest

from schema.common import ids
from schema.common.ids import Kind
from schema.db.database import Database
from tests.conftest import JobFactory
from tests.service.attack import BOBS, Answer
from tests.service.listener import ask, listening
from tests.service.lives import LIVES, Worker, lived
from tests.service.stand_in import ADA, ADAS, Whoami, person, shown
from tests.service.test_attacks import rows

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tasks/get", {}),
    ("tasks/update", {"inputResponses": {"x": {"action": "accept"}}}),
    ("tasks/cancel", {}),
)


@pytest.mark.parametrize("life", LIVES)
async def test_a_foreign_task_is_not_told_from_none(
    service: str, database: Database, make_job: JobFactory, life: str
) -> None:
    """Byte for byte, whatever became of it, and whether or not the asker knows tasks."""
    foreign = ids.write(Kind.JOB, (await lived(Worker(database), make_job, life)).id)
    nobodys = ids.write(Kind.JOB, ids.new_id())
    before = await rows(database)

    for method, more in METHODS:
        for able in (True, False):
            for header in ("", None):
                theirs, none = [
                    Answer.of(
                        await ask(
                            service,
                            method,
                            by=BOBS,
                            able=able,
                            header=header,
                            taskId=each,
                            **more,
                        )
                    )
                    for each in (foreign, nobodys)
                ]
                assert theirs.about(foreign) == none.about(nobodys), f"{method}, {able}"
                assert b'"error"' in none.body

    assert await rows(database) == before
    for method, more in METHODS:
        hers = await ask(service, method, taskId=foreign, **more)
        assert "result" in hers.json(), f"{method}: nothing was attacked"


async def test_a_foreign_wait_does_not_become_a_task(service: str, make_job: JobFactory) -> None:
    """Whoever knows tasks is told as much of a foreign job as anybody."""
    foreign = ids.write(Kind.JOB, (await make_job()).id)
    nobodys = ids.write(Kind.JOB, ids.new_id())

    theirs, none = [
        Answer.of(
            await ask(
                service,
                "tools/call",
                by=BOBS,
                name="wait_for_jobs",
                arguments={"job_ids": [each], "timeout_seconds": 0.1},
            )
        )
        for each in (foreign, nobodys)
    ]

    assert theirs.about(foreign) == none.about(nobodys)
    assert none.code == "NotFound"


async def test_who_listens_to_anothers_hears_of_ones_own_alone(
    service: str, make_job: JobFactory, database: Database
) -> None:
    """One's own job on the same stream is no ticket; and the ack tells nothing."""
    own = (await shown(service, "launch_job", by=BOBS, image="i", command=["c"]))["job_id"]
    workspace = (await shown(service, "create_workspace", name="hers"))["workspace_id"]
    job = await make_job()
    foreign = ids.write(Kind.JOB, job.id)
    wanted: dict[str, Any] = {
        "resourceSubscriptions": [
            *(f"job://{foreign}", f"job://{foreign}/logs"),
            *(f"workspace://{workspace}", f"job://{own}"),
        ],
        "taskIds": [foreign],
    }
    async with listening(service, by=BOBS, **wanted) as heard:
        assert await heard.acknowledged() == {"resourceSubscriptions": [f"job://{own}"]}
        await shown(service, "launch_job", image="i", command=["c"], workspace_id=workspace)
        await shown(service, "cancel_job", job_id=foreign)
        await shown(service, "cancel_job", by=BOBS, job_id=own)
        assert (await heard.told("resources/updated"))["uri"] == f"job://{own}"
        await heard.end()

    async with listening(service, **wanted) as hers:
        assert f"job://{foreign}" in (await hers.acknowledged())["resourceSubscriptions"]


async def test_cancelling_a_task_is_challenged_for_a_scope_like_the_tool(
    service: str, hub: Whoami, make_job: JobFactory
) -> None:
    """A client that can sign in for more is sent to where it can, and nothing is stopped."""
    job = ids.write(Kind.JOB, (await make_job()).id)
    claims = base64.urlsafe_b64encode(json.dumps({"scope": "openid"}).encode()).decode()
    token = f"hf_oauth_e30.{claims.rstrip('=')}.c2ln"
    hub.answers[token] = person(ADA, "ada", type="oauth")

    by_tool = await ask(
        service, "tools/call", by=token, name="cancel_job", arguments={"job_id": job}
    )
    by_task = await ask(service, "tasks/cancel", by=token, taskId=job)

    assert by_task.status_code == 403
    assert 'error="insufficient_scope"' in by_task.headers["www-authenticate"]
    assert Answer.of(by_task) == Answer.of(by_tool)
    assert (await ask(service, "tasks/get", by=token, taskId=job)).json()["result"]
    view = (await shown(service, "job_status", by=ADAS, job_ids=job))["jobs"][0]
    assert view["state"] == "queued"
