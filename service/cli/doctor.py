"""The checks of `holdfast doctor`: each part that the installation needs, looked at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import httpx2
from rich.console import Console
from rich.table import Table

from schema.accounts import key_rotation
from schema.accounts.row_security import DatabaseRole, open_worker_database
from schema.accounts.vault import Vault
from schema.common.errors import HoldfastError, Invalid
from schema.common.observability.causes import describe_cause, find_root_cause
from schema.common.process.tls import shared_ssl_context
from schema.common.text import format_count
from schema.db import revisions
from schema.db.database import Database, Transaction
from schema.db.failures import explain_database_failure
from schema.hub.oauth.issuer_metadata import IssuerMetadataClient, IssuerMetadataError
from schema.messaging import wakeups
from schema.messaging.failures import explain_redis_failure
from schema.settings import Settings, describe_unknown_variables
from service.auth.jwks import parse_key_set
from service.auth.resource_metadata import covers_endpoint
from service.cli.options import COMMAND

_HUB_TIMEOUT: Final = timedelta(seconds=5)
_COUNT_WORKERS: Final = """
SELECT count(DISTINCT application_name) FROM pg_stat_activity
 WHERE application_name LIKE 'holdfast-worker%' AND datname = current_database()
"""
_COUNT_UNOWNED: Final = "SELECT count(*) FROM v_unowned"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one part; `remedy` says what to do if it is not ok."""

    component: str
    is_ok: bool
    message: str
    remedy: str = ""


async def run_checks(stack_environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Check every part; parts that others need come first.

    Args:
        stack_environment: the settings of a local stack, whose service is looked at too; None are
            those of this environment.
    """
    try:
        settings = Settings.from_env(stack_environment)
    except Invalid as error:
        remedy = f"Set these variables, or run `{COMMAND} up`, which brings its own servers."
        return [Finding("settings", is_ok=False, message=str(error), remedy=remedy)]
    unknown = describe_unknown_variables()
    return [
        Finding(
            "settings",
            is_ok=not unknown,
            message=f"{format_count(len(unknown), 'unknown variable')}" if unknown else "known",
            remedy=" ".join(unknown),
        ),
        *await _check_database(settings),
        await check_redis(settings),
        await check_hub(settings),
        *([] if settings.auth == "huggingface" else [await check_issuer(settings)]),
        *([await check_connecting(settings)] if settings.connects_accounts else []),
        *([] if stack_environment is None else [await _check_service(settings)]),
    ]


def print_findings(console: Console, findings: list[Finding]) -> None:
    """Print the findings as a table, then the remedy of each bad one."""
    table = Table("part", "", "finding", show_edge=False)
    for finding in findings:
        state = "[green]well[/]" if finding.is_ok else "[red]bad[/]"
        table.add_row(finding.component, state, finding.message)
    console.print(table)
    for finding in findings:
        if not finding.is_ok:
            console.print(f"[bold]{finding.component}[/]: {finding.remedy}")


async def _check_database(settings: Settings) -> list[Finding]:
    url = str(settings.database_url)
    try:
        async with (
            Database(
                url,
                application_name="holdfast-doctor",
                max_connections=1,
                pooled=settings.pooled,
            ) as database,
            database.transaction() as tx,
        ):
            version = await tx.fetchval("SHOW server_version")
            revision = await revisions.read_revision_status(tx)
            workers = await tx.fetchval(_COUNT_WORKERS)
            unowned = await _count_unowned(tx) if revision.is_usable else 0
        vault = [await _check_vault(settings)] if revision.is_usable else []
    except HoldfastError as error:
        cause = find_root_cause(error)
        message = str(error) if cause is error else describe_cause(cause)
        remedy = explain_database_failure(error) or "Start it, or mend HOLDFAST_DATABASE_URL."
        return [Finding("database", is_ok=False, message=message, remedy=remedy)]
    return [
        Finding("database", is_ok=True, message=f"Postgres {version}"),
        Finding(
            "migrations",
            is_ok=revision.is_usable,
            message=f"at {revision.current}, this release is of {revision.expected}",
            remedy=str(revision.find_problem())
            if revision.is_newer
            else f"Run `{COMMAND} migrate`.",
        ),
        Finding(
            "workers",
            is_ok=workers > 0,
            message=f"{workers} connected",
            remedy=f"Start one with `{COMMAND} worker`; until then jobs stay queued, and are safe.",
        ),
        Finding(
            "work",
            is_ok=unowned == 0,
            message=f"{format_count(unowned, 'row needs', 'rows need')} a next step that no worker "
            "would take",
            remedy="This is a bug in Holdfast: please report the rows of v_unowned.",
        ),
        *vault,
    ]


async def _check_vault(settings: Settings) -> Finding:
    """Check that the keys open what is stored, which a new key beside old rows does not."""
    async with open_worker_database(
        str(settings.database_url), application_name="holdfast-doctor", pooled=settings.pooled
    ) as database:
        vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
        lost = await key_rotation.count_lost_rows(database, vault)
    return Finding(
        "vault",
        is_ok=lost == 0,
        message=f"{lost} stored tokens and secrets cannot be opened",
        remedy=key_rotation.describe_lost_rows(lost),
    )


async def _count_unowned(tx: Transaction) -> int:
    await tx.execute(f"SET LOCAL ROLE {DatabaseRole.WORKER}")
    unowned: int = await tx.fetchval(_COUNT_UNOWNED)
    return unowned


async def check_redis(settings: Settings) -> Finding:
    """Look whether Redis answers."""
    async with wakeups.open_wakeup_sender(str(settings.redis_url)) as sender:
        failure = await sender.find_failure()
    if failure is None:
        return Finding("redis", is_ok=True, message="answers")
    remedy = explain_redis_failure(failure) or "Start it, or mend HOLDFAST_REDIS_URL."
    return Finding(
        "redis",
        is_ok=False,
        message=f"does not answer: {describe_cause(find_root_cause(failure))}",
        remedy=f"Jobs still run, up to a second later each. {remedy}",
    )


async def _check_service(settings: Settings) -> Finding:
    """Look whether the service is ready."""
    url = f"{str(settings.public_url).rstrip('/')}/health/ready"
    try:
        async with httpx2.AsyncClient(
            timeout=_HUB_TIMEOUT.total_seconds(), verify=shared_ssl_context()
        ) as client:
            status = (await client.get(url)).status_code
    except httpx2.TransportError as error:
        message = f"{url}: {describe_cause(find_root_cause(error))}"
    else:
        message = f"{url} answers {status}"
        if status == HTTPStatus.OK:
            return Finding("service", is_ok=True, message=message)
    remedy = "Its log is logs/service.log in the data folder."
    return Finding("service", is_ok=False, message=message, remedy=remedy)


async def check_issuer(settings: Settings) -> Finding:
    """Look whether the authorization server publishes keys that can verify its tokens."""
    issuer = str(settings.jwt_issuer)
    try:
        async with httpx2.AsyncClient(verify=shared_ssl_context()) as client:
            metadata_client = IssuerMetadataClient(client, issuer, settings.jwt_jwks_url)
            keys = parse_key_set(await metadata_client.fetch_key_set())
    except (IssuerMetadataError, ValueError) as error:
        return Finding(
            "sign-in",
            is_ok=False,
            message=f"nobody can sign in: {error}",
            remedy="Compare HOLDFAST_JWT_ISSUER letter by letter with the issuer of its metadata, "
            "or set HOLDFAST_JWT_JWKS_URL if it publishes none.",
        )
    message = f"{issuer} publishes {format_count(len(keys), 'usable key')}"
    endpoint = f"{str(settings.public_url).rstrip('/')}/mcp"
    if settings.jwt_audience is not None and not covers_endpoint(settings.jwt_audience, endpoint):
        message += (
            f"; clients ask it for {endpoint}, and it has to add the audience "
            f"{settings.jwt_audience} by itself"
        )
    return Finding(
        "sign-in",
        is_ok=bool(keys),
        message=message,
        remedy="Have it publish a key for signatures: RSA of 2048 bits, P-256, P-384, P-521 or "
        "Ed25519.",
    )


async def check_connecting(settings: Settings) -> Finding:
    """Look whether people can be sent to the Hub to connect their account."""
    hub, public = (str(url).rstrip("/") for url in (settings.hub_url, settings.public_url))
    try:
        async with httpx2.AsyncClient(verify=shared_ssl_context()) as client:
            await IssuerMetadataClient(client, hub, None).fetch_metadata()
    except IssuerMetadataError as error:
        return Finding(
            "connecting",
            is_ok=False,
            message=f"nobody can connect an account: {error}",
            remedy="Is HOLDFAST_HUB_URL right?",
        )
    return Finding(
        "connecting",
        is_ok=True,
        message=f"people connect at {public}/connect; {hub} has to send them back to "
        f"{public}/connect/hugging-face, {settings.jwt_issuer} to {public}/connect/sign-in",
    )


async def check_hub(settings: Settings) -> Finding:
    """Look whether the Hub answers."""
    url = str(settings.hub_url).rstrip("/")
    try:
        async with httpx2.AsyncClient(
            timeout=_HUB_TIMEOUT.total_seconds(), verify=shared_ssl_context()
        ) as client:
            status = (await client.get(f"{url}/api/jobs/hardware")).status_code
    except httpx2.TransportError as error:
        message = f"{url}: {describe_cause(find_root_cause(error))}"
        return Finding("hub", is_ok=False, message=message, remedy="Is HOLDFAST_HUB_URL right?")
    return Finding(
        "hub",
        is_ok=status == HTTPStatus.OK,
        message=f"{url} answers {status}",
        remedy="Is HOLDFAST_HUB_URL right?",
    )
