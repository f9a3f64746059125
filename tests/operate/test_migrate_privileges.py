"""A login without rights, as managed servers give out: `migrate` says all that is missing, once."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from anyio import to_thread

from schema.accounts.row_security import DatabaseRole
from schema.db import privileges, revisions
from schema.db.database import Database
from schema.db.privileges import MissingPrivileges
from service.cli.main import main
from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.support.database.row_security import create_login
from tests.support.stack import McpCaller
from tests.support.subjects import ADA_ID

ROLES: Final = ", ".join(DatabaseRole)
GRANT_OPTION: Final = " WITH INHERIT FALSE, SET TRUE"

COUNT_LEFT_BEHIND: Final = """
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
     + (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'holdfast%')
"""


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def read_value(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        value: int = await connection.fetchval(query)
    finally:
        await connection.close()
    return value


@asynccontextmanager
async def create_bare_login(
    bare_url: str, options: str = "NOCREATEROLE", *, owns_database: bool = False
) -> AsyncGenerator[tuple[str, str]]:
    """Make a login and a database; yield its URL, and the administrator's of the same database.

    The roles of Holdfast exist neither before nor afterwards.
    """
    login = f"bare_{uuid4().hex}"
    place = urlsplit(bare_url)._replace(path=f"/{login}")
    await execute(
        bare_url,
        f"CREATE ROLE {login} LOGIN PASSWORD 'plain' {options}",
        f"CREATE DATABASE {login} OWNER {login if owns_database else 'postgres'}",
    )
    try:
        address = f"{login}:plain@{place.hostname}:{place.port}"
        yield place._replace(netloc=address).geturl(), place.geturl()
    finally:
        await execute(
            bare_url,
            f"DROP DATABASE {login} WITH (FORCE)",
            *(f"DROP ROLE IF EXISTS {role}" for role in DatabaseRole),
            f"DROP ROLE {login}",
        )


def read_statements(sentence: str) -> list[str]:
    """Return what the administrator is told to run."""
    return re.findall(r"(?:CREATE|GRANT) [^;]+", sentence)


async def find_problem(url: str) -> str:
    """Migrate, and return the sentence that refuses to."""
    with pytest.raises(MissingPrivileges) as refusal:
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
    return str(refusal.value)


def test_the_roles_that_are_asked_for_are_those_that_processes_take_on() -> None:
    """One that is missing here would be found by the first start of a process."""
    assert tuple(DatabaseRole) == privileges.ROLES


async def test_all_that_is_missing_is_said_in_one_sentence_and_nothing_is_changed(
    bare_postgres_url: str,
) -> None:
    """Whoever has to ask an administrator asks once."""
    option = await grant_option(bare_postgres_url)
    async with create_bare_login(bare_postgres_url) as (url, admin_url):
        sentence = await find_problem(url)
        left_behind = await read_value(admin_url, COUNT_LEFT_BEHIND)

    login = urlsplit(url).username
    assert sentence == (
        f"Nothing was changed, because {login} may not create roles, and there is no "
        "holdfast_tenant, holdfast_worker or holdfast_analyst, and "
        f"{login} may not create tables in the schema public. Have an administrator of the server "
        f"run this in the database, then run `holdfast migrate` again as {login}: "
        "CREATE ROLE holdfast_tenant NOLOGIN; CREATE ROLE holdfast_worker NOLOGIN; "
        f"CREATE ROLE holdfast_analyst NOLOGIN; GRANT {ROLES} TO {login}{option}; "
        f"GRANT USAGE, CREATE ON SCHEMA public TO {login};"
    )
    assert left_behind == 0


async def test_the_statements_of_the_sentence_are_enough(bare_postgres_url: str) -> None:
    """They are pasted as they stand, and the same command succeeds then."""
    async with create_bare_login(bare_postgres_url) as (url, admin_url):
        await execute(admin_url, *read_statements(await find_problem(url)))

        await to_thread.run_sync(revisions.upgrade_to_revision, url)
        await to_thread.run_sync(revisions.upgrade_to_revision, url)

        async with (
            Database(url, application_name="tests", role=DatabaseRole.WORKER) as worker,
            worker.transaction() as tx,
        ):
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'ada')", ADA_ID)
        counts: list[int] = []
        for role in (DatabaseRole.TENANT, DatabaseRole.WORKER):
            async with (
                Database(url, application_name="tests", role=role) as database,
                database.transaction() as tx,
            ):
                counts.append(await tx.fetchval("SELECT count(*) FROM subject"))

    assert counts == [0, 1]


async def test_only_the_roles_that_were_not_granted_are_asked_for(bare_postgres_url: str) -> None:
    """What an administrator has done already is not asked of them again."""
    option = await grant_option(bare_postgres_url)
    async with create_bare_login(bare_postgres_url, owns_database=True) as (url, _):
        login = urlsplit(url).username
        await execute(
            bare_postgres_url,
            *(f"CREATE ROLE {role}" for role in DatabaseRole),
            f"GRANT {DatabaseRole.TENANT}, {DatabaseRole.ANALYST} TO {login}{option}",
        )
        sentence = await find_problem(url)

    assert f"because {login} is no member of holdfast_worker. " in sentence
    assert read_statements(sentence) == [f"GRANT holdfast_worker TO {login}{option}"]


async def test_roles_that_may_not_use_the_schema_are_named(bare_postgres_url: str) -> None:
    """A grant that the login may not make is only a warning, and the service would fail instead."""
    option = await grant_option(bare_postgres_url)
    async with create_bare_login(bare_postgres_url) as (url, admin_url):
        login = urlsplit(url).username
        await execute(
            admin_url,
            *(f"CREATE ROLE {role}" for role in DatabaseRole),
            f"GRANT {ROLES} TO {login}{option}",
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {login}",
        )
        sentence = await find_problem(url)
        await execute(admin_url, *read_statements(sentence))
        await to_thread.run_sync(revisions.upgrade_to_revision, url)

    assert read_statements(sentence) == [f"GRANT USAGE ON SCHEMA public TO {ROLES}"]


async def test_a_login_that_may_create_roles_needs_nobody(bare_postgres_url: str) -> None:
    """The first login of most managed servers: no superuser, but it may create roles."""
    async with create_bare_login(bare_postgres_url, "CREATEROLE", owns_database=True) as (url, _):
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
        async with (
            Database(url, application_name="tests", role=DatabaseRole.TENANT) as database,
            database.transaction() as tx,
        ):
            role = await tx.fetchval("SELECT current_user")

    assert role == DatabaseRole.TENANT


async def test_another_login_than_the_one_that_owns_the_tables_is_told_so(
    postgres_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next release is often rolled out with another login than the first."""
    async with create_login(postgres_url) as url:
        login = urlsplit(url).username
        other_url = urlsplit(url)._replace(path=urlsplit(database_url).path).geturl()
        # As before an upgrade to a later revision.
        monkeypatch.setattr(revisions, "head_revision", lambda: "later")
        sentence = await find_problem(other_url)

    assert f"because the tables belong to postgres, and {login} may not change them" in sentence
    assert read_statements(sentence) == [f"GRANT postgres TO {login}"]


async def test_the_command_prints_the_sentence_and_no_traceback(
    bare_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator reads one sentence."""
    async with create_bare_login(bare_postgres_url) as (url, _):
        for name, value in {
            "DATABASE_URL": url,
            "REDIS_URL": "redis://127.0.0.1:1",
            "VAULT_KEYS": f"1:{'A' * 43}=",
        }.items():
            monkeypatch.setenv(f"HOLDFAST_{name}", value)
        code = await to_thread.run_sync(main, ["migrate"])

    errors = capsys.readouterr().err
    assert code == 1
    assert errors.startswith("Nothing was changed, because")
    assert "Traceback" not in errors
    assert "plain:" not in errors


@pytest.mark.parametrize("bare_postgres_url", ["wheel"], indirect=True)
async def test_service_and_workers_run_with_a_login_without_rights(
    bare_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of a job, on what a managed server gives."""
    async with create_bare_login(bare_postgres_url) as (url, admin_url):
        await execute(admin_url, *read_statements(await find_problem(url)))
        monkeypatch.setenv("HOLDFAST_DATABASE_URL", url)
        start: Callable[[], Stack] = Stack(tmp_path, report=print, durable=False).__enter__
        stack = await to_thread.run_sync(start)
        try:
            user = load_users(stack.folder / "hub")[0]
            caller = McpCaller(Connection(stack.url, user.token))
            view = await caller.wait_until_finished(await caller.launch("true"))
        finally:
            await to_thread.run_sync(stack.__exit__, None, None, None)

    assert view["state"] == "succeeded"


async def grant_option(url: str) -> str:
    """Return how a grant of this server says that rights are not inherited."""
    version = await read_value(url, "SELECT current_setting('server_version_num')::int")
    return GRANT_OPTION if version >= 160000 else ""
