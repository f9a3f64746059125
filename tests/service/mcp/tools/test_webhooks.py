"""Webhooks as their owner sees them: the secret once, the delivery log, and no word of the URL."""

import base64
import json
from typing import Any, Final

import pytest

from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.workspaces import webhooks
from tests.support.database.subject_rows import find_mentions
from tests.support.factories import StartService
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal

JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": "true"}
URL: Final = "https://hooks.example.com/h?key=open-sesame"


async def read_secrets(database: Database, vault: Vault) -> list[tuple[str, str]]:
    """Open the URLs and secrets that are stored, the newest last."""
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT * FROM webhook_secret ORDER BY created_at")
    opened = [
        webhooks.open_target(
            vault, row["sealed"], subject_id=row["subject_id"], target_id=row["target_id"]
        )
        for row in rows
    ]
    return [(url, secret.reveal()) for url, secret in opened]


async def test_the_secret_of_a_new_url_is_shown_once(
    service_url: str, database: Database, vault: Vault
) -> None:
    """Whoever names a URL first needs it, and nobody can read it again."""
    answer = await call_tool(service_url, "launch_job", **JOB, webhook_url=URL)
    again = await call_for_result(service_url, "launch_job", **JOB, webhook_url=URL)

    launched = answer.structured_content
    assert launched is not None
    secret = launched["webhook_secret"]
    assert secret in answer_text(answer)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert again["webhook_secret"] is None
    assert await read_secrets(database, vault) == [(URL, secret)]
    status = await call_for_result(service_url, "job_status", job_ids=launched["job_id"])
    assert secret not in json.dumps(status)


async def test_neither_url_nor_secret_is_stored_in_plain(
    service_url: str, database: Database
) -> None:
    """Many a URL of a webhook is a password; a dump, an analyst or the audit must not have it."""
    made = await call_for_result(service_url, "create_workspace", name="w", webhook_url=URL)
    await call_for_result(service_url, "launch_job", **JOB, webhook_url=f"{URL}&again")
    rotated = await call_for_result(service_url, "rotate_webhook_secret", webhook_url=URL)

    for text in ("open-sesame", made["webhook_secret"], rotated["webhook_secret"]):
        assert await find_mentions(database, text) == {}


async def test_the_log_of_a_delivery_is_shown_with_its_job(
    service_url: str, database: Database
) -> None:
    """Why a receiver heard nothing is for its owner to see, and the URL is for nobody."""
    launched = await call_for_result(service_url, "launch_job", **JOB, webhook_url=URL)
    await call_for_result(service_url, "cancel_job", job_id=launched["job_id"])
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE webhook_delivery SET attempts = 2, last_status = 503, last_error = 'status'"
        )

    answer = await call_tool(service_url, "job_status", job_ids=launched["job_id"])

    assert answer.structured_content is not None
    [job] = answer.structured_content["jobs"]
    shown = job["webhook"]
    assert (shown["host"], shown["state"], shown["attempts"]) == (
        *("hooks.example.com", "pending", 2),
    )
    assert (shown["last_status"], shown["last_error"]) == (503, "status")
    text = answer_text(answer)
    assert "Webhook at hooks.example.com: pending, attempts 2, last_status 503" in text
    assert "open-sesame" not in json.dumps(answer.structured_content) + text


async def test_a_workspace_gives_its_jobs_a_webhook_until_it_is_off(
    service_url: str, database: Database
) -> None:
    """Set once for everything that is launched into it, by whatever client."""
    made = await call_for_result(service_url, "create_workspace", name="w", webhook_url=URL)
    workspace = {"workspace_id": made["workspace_id"]}
    await call_for_result(service_url, "launch_job", **JOB, **workspace)
    changed = await call_for_result(
        service_url, "update_workspace", **workspace, webhook_url="https://b.example.com/"
    )
    await call_for_result(service_url, "launch_job", **JOB, **workspace)
    off = await call_tool(service_url, "update_workspace", **workspace, webhook_url="off")
    await call_for_result(service_url, "launch_job", **JOB, **workspace)

    assert made["webhook_secret"].startswith("whsec_")
    assert changed["webhook_secret"] not in {None, made["webhook_secret"]}
    assert changed["webhook_host"] == "b.example.com"
    assert off.structured_content is not None
    assert off.structured_content["webhook_host"] is None
    async with database.transaction() as tx:
        hosts = await tx.fetch(
            "SELECT host FROM webhook_delivery AS delivery"
            " JOIN webhook_target AS target ON target.id = delivery.target_id ORDER BY job_id"
        )
        facts = await tx.fetch("SELECT facts::text AS facts FROM audit_entry")
    assert [row["host"] for row in hosts] == ["hooks.example.com", "b.example.com"]
    assert not [row for row in facts if "open-sesame" in row["facts"]]
    assert [row for row in facts if "b.example.com" in row["facts"]]


async def test_a_launch_names_another_webhook_than_its_workspace(
    service_url: str, database: Database
) -> None:
    """What the call says wins, as with every default."""
    made = await call_for_result(service_url, "create_workspace", name="w", webhook_url=URL)

    await call_for_result(
        service_url,
        "launch_job",
        **JOB,
        workspace_id=made["workspace_id"],
        webhook_url="https://b.example.com/",
    )

    async with database.transaction() as tx:
        host = await tx.fetchval(
            "SELECT host FROM webhook_delivery AS delivery"
            " JOIN webhook_target AS target ON target.id = delivery.target_id"
        )
    assert host == "b.example.com"


async def test_a_rotated_secret_is_another_one_and_the_url_stays(
    service_url: str, database: Database, vault: Vault
) -> None:
    """A secret that is lost is replaced; the one before still signs for a day."""
    launched = await call_for_result(service_url, "launch_job", **JOB, webhook_url=URL)

    answer = await call_tool(service_url, "rotate_webhook_secret", webhook_url=URL)

    assert answer.structured_content is not None
    secret = answer.structured_content["webhook_secret"]
    assert secret in answer_text(answer)
    assert await read_secrets(database, vault) == [
        (URL, launched["webhook_secret"]),
        (URL, secret),
    ]


async def test_a_foreign_url_is_not_told_from_one_that_nobody_has_named(
    service_url: str, database: Database
) -> None:
    """Or a rotation would say where somebody else hears of their jobs, or cut them off."""
    await call_for_result(service_url, "launch_job", **JOB, webhook_url=URL)
    foreign, unknown = [
        await call_tool(
            service_url, "rotate_webhook_secret", caller_token="hf_bob", webhook_url=url
        )
        for url in (URL, "https://hooks.example.com/h?key=another")
    ]

    assert read_refusal(foreign)["code"] == "NotFound"
    assert answer_text(foreign) == answer_text(unknown)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM webhook_secret") == 1


async def test_two_subjects_with_one_url_have_a_secret_each(service_url: str) -> None:
    """Or one of them could sign what the other one believes."""
    secrets = [
        (
            await call_for_result(
                service_url, "create_workspace", caller_token=token, name="w", webhook_url=URL
            )
        )["webhook_secret"]
        for token in ("hf_ada", "hf_bob")
    ]

    assert None not in secrets
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/", "https://10.0.0.1/", "https://u:pw@hooks.example.com/"]
)
async def test_a_url_to_which_nothing_is_sent_is_refused_before_the_launch(
    service_url: str, database: Database, url: str
) -> None:
    """Not by a log that nobody reads, hours later."""
    for tool, arguments in (("launch_job", JOB), ("create_workspace", {"name": "w"})):
        refusal = read_refusal(await call_tool(service_url, tool, **arguments, webhook_url=url))
        assert refusal["code"] == "Invalid"
        assert "webhook_url: this is not the URL of a receiver" in refusal["message"]
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0


async def test_an_origin_that_the_operator_allows_is_taken(
    start_service: StartService,
) -> None:
    """For development, and for receivers in a network of their own."""
    with start_service(webhook_origins="http://127.0.0.1:9000") as url:
        launched = await call_for_result(
            url, "launch_job", **JOB, webhook_url="http://127.0.0.1:9000/h"
        )

    assert launched["webhook_secret"] is not None


async def test_a_repeated_launch_leaves_the_webhook_of_the_first(
    service_url: str, database: Database
) -> None:
    """The key finds the job, and the job is as it was launched."""
    first = await call_for_result(
        service_url, "launch_job", **JOB, idempotency_key="k", webhook_url=URL
    )
    again = await call_for_result(
        service_url,
        "launch_job",
        **JOB,
        idempotency_key="k",
        webhook_url="https://b.example.com/",
    )

    assert again["job_id"] == first["job_id"]
    assert again["webhook_secret"] is None
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT array_agg(host) FROM webhook_target") == [
            "hooks.example.com"
        ]
