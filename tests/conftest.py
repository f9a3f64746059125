"""Fixtures for every test: real servers, and an empty, migrated database of the test's own."""

import base64
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db import revisions
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import Job, JobKind
from schema.settings import Settings
from tests.support.database.database_pool import DatabasePool
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.factories import FailFirstCommit, JobFactory
from tests.support.subjects import ADA_ID

pytest_plugins = [
    "tests.support.browser.chromium_program",
    "tests.support.stack",
    "tests.support.xdist_scheduler",
]
# An example takes as long as the machine is busy, so no property has a time limit of its own.
_SUITE_PROFILE = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("suite", _SUITE_PROFILE)
# For one property by itself: --hypothesis-profile=thorough. The suite tries 100 examples.
hypothesis.settings.register_profile("thorough", _SUITE_PROFILE, max_examples=2000)
hypothesis.settings.load_profile("suite")


_FAIL_FIRST_COMMIT = """
CREATE SEQUENCE commits;
CREATE FUNCTION die_in_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF nextval('commits') = 1 THEN
    PERFORM pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(5);
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION die_in_commit();
"""


def pytest_configure() -> None:
    """Let SIGINT end the programs that tests start, also where a shell runs us in the background.

    Such a shell ignores the signal for us, and whatever we start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every test on asyncio, as arq and asyncpg do."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of a Postgres for this process; its database is a migrated, empty template."""
    with run_postgres(tmp_path_factory.mktemp("postgres")) as url:
        revisions.upgrade_to_revision(url)
        yield url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A Valkey for this process."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def database_pool(postgres_url: str) -> Generator[DatabasePool]:
    """The databases of the tests of this process."""
    with DatabasePool(postgres_url) as pool:
        yield pool


@pytest.fixture
async def database_url(database_pool: DatabasePool) -> AsyncGenerator[str]:
    """A database of the test's own, at the newest revision."""
    async with database_pool.lend() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    """The test's database, open."""
    async with Database(database_url, application_name="tests") as opened:
        yield opened


@pytest.fixture
def vault_keys() -> str:
    """A key ring for the vault."""
    return f"1:{base64.b64encode(os.urandom(32)).decode()}"


@pytest.fixture
def vault(vault_keys: str) -> Vault:
    """A vault with those keys."""
    return Vault.from_key_ring(vault_keys)


@pytest.fixture
def make_settings(
    database_url: str, valkey_url: str, vault_keys: str, tmp_path: Path
) -> Callable[..., Settings]:
    """Make settings for the test's servers; keyword arguments override them."""

    def make(**overrides: Any) -> Settings:
        values = {
            "HOLDFAST_DATABASE_URL": database_url,
            "HOLDFAST_REDIS_URL": valkey_url,
            "vault_keys": vault_keys,
            "data_dir": str(tmp_path),
            "calls_per_minute": 0,  # one Valkey serves many tests, and their callers are the same
        }
        return Settings.model_validate(values | overrides)

    return make


@pytest.fixture
async def ada_id(database: Database, vault: Vault) -> str:
    """The id of Ada, whose token is stored."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_ada"), expires_at=None
        )
    return ADA_ID


@pytest.fixture
def make_job(database: Database, ada_id: str) -> JobFactory:
    """Queue a job for Ada; keyword arguments override the request."""

    async def make(**overrides: Any) -> Job:
        request: dict[str, Any] = {
            "subject_id": ada_id,
            "kind": JobKind.HUB_JOB,
            "namespace": "ada",
            "title": "python:3.12: true",
            "spec": {"image": "python:3.12", "command": ["true"]},
            "labels": {},
            "max_open_jobs": 1000,
        }
        request |= overrides
        job = await lifecycle.commit_job(database, request["subject_id"], **request)
        if job is not None:
            return job
        async with database.transaction() as tx:  # as the service does
            return await lifecycle.submit_job(tx, **request)

    return make


@pytest.fixture
def fail_first_commit(database_url: str) -> FailFirstCommit:
    """Return a function that makes the first commit with an insert into a table fail."""

    async def prepare(table: str) -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(_FAIL_FIRST_COMMIT.format(table=table))
        finally:
            await connection.close()

    return prepare
