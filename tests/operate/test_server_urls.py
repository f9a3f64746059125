"""Any URL that a managed service prints, with real servers behind it and real TLS in front."""

import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from anyio import to_thread
from arq.connections import create_pool
from redis.exceptions import RedisError

from schema.common.errors import Unavailable
from schema.db import revisions
from schema.db.database import Database
from schema.db.revisions import CannotConnect
from schema.messaging import wakeups
from service.cli.main import main
from service.local.hub_emulator.users import load_users
from service.local.processes.os_account import choose_account
from service.local.servers.postgres import Postgres
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.support.database.servers import find_system_postgres
from tests.support.stack import McpCaller
from tests.support.tls.certificates import Certificates, make_certificates
from tests.support.tls.front import TlsFront

GOOD_PARAMETERS: Final = [
    "sslmode=require",
    "sslmode=prefer",
    "ssl=true",
    "sslmode=require&channel_binding=prefer&connect_timeout=10&target_session_attrs=read-write",
    "sslmode=require&channel_binding=require&sslrootcert={ca}",
    "sslmode=verify-ca&sslrootcert={ca}",
    "sslmode=verify-full&sslrootcert={ca}&application_name=app&keepalives=1",
    "sslmode=require&pgbouncer=true&connection_limit=1&options=-c%20extra_float_digits%3D0",
]

USES_TLS: Final = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

BAD_PARAMETERS: Final = [
    (
        "localhost",
        "sslmode=verify-full&sslrootcert=system",
        "Its certificate is not accepted: name",
    ),
    ("localhost", "sslmode=verify-full", "Its certificate is not accepted: name its"),
    ("localhost", "channel_binding=require", "Its certificate is not accepted: name its"),
    ("127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", "IP address mismatch"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and a certificate for localhost."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def postgres_front(database_url: str, certificates: Certificates) -> AsyncGenerator[TlsFront]:
    """TLS in front of the test's database."""
    port = urlsplit(database_url).port
    assert port is not None
    async with TlsFront(port, certificates, is_postgres=True).listen() as front:
        yield front


async def read_value(url: str, query: str) -> object:
    """Ask as a process does."""
    async with Database(url, application_name="tests") as database, database.transaction() as tx:
        value: object = await tx.fetchval(query)
    return value


def address(url: str, host: str, parameters: str) -> str:
    """Return the URL of the same database at another host and port, with parameters."""
    place = urlsplit(url)
    login = f"{place.username}:{place.password}@{host}"
    return place._replace(scheme="postgres", netloc=login, query=parameters).geturl()


@pytest.mark.parametrize("parameters", GOOD_PARAMETERS)
async def test_a_printed_url_is_taken_by_migrate_and_by_processes(
    database_url: str, postgres_front: TlsFront, certificates: Certificates, parameters: str
) -> None:
    """Nobody should have to learn which parameter which library of ours knows."""
    parameters = parameters.format(ca=certificates.authority)
    url = address(database_url, f"localhost:{postgres_front.port}", parameters)

    await to_thread.run_sync(revisions.upgrade_to_revision, url)
    migrated = postgres_front.handshakes
    async with Database(url, application_name="tests") as database, database.transaction() as tx:
        name = await tx.fetchval("SHOW application_name")

    assert migrated > 0
    assert postgres_front.handshakes > migrated
    assert name == "tests"


@pytest.mark.parametrize(("host", "parameters", "reason"), BAD_PARAMETERS)
async def test_a_server_that_is_not_who_it_should_be_is_refused_in_a_sentence(
    database_url: str,
    postgres_front: TlsFront,
    certificates: Certificates,
    host: str,
    parameters: str,
    reason: str,
) -> None:
    """What was asked for is never weakened: channel binding too ends in a verified certificate."""
    parameters = parameters.format(ca=certificates.authority)
    url = address(database_url, f"{host}:{postgres_front.port}", parameters)

    with pytest.raises(CannotConnect, match=reason) as refusal:
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
    with pytest.raises(Unavailable):
        async with Database(url, application_name="tests") as database, database.transaction():
            pass

    assert str(urlsplit(url).password) not in str(refusal.value)


async def test_a_server_without_tls_is_refused_if_the_url_requires_it(database_url: str) -> None:
    """Whoever writes `require` would rather have no connection than one that others can read."""
    place = urlsplit(database_url)
    url = address(database_url, f"{place.hostname}:{place.port}", "sslmode=require")

    with pytest.raises(CannotConnect, match="It speaks no TLS, and the URL asks for it"):
        await to_thread.run_sync(revisions.upgrade_to_revision, url)


class TlsPostgres(Postgres):
    """A Postgres that speaks TLS itself."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder, durable=False)
        self._certificates = certificates

    def _options(self, port: int) -> list[str]:
        files = self._certificates
        settings = f"ssl=on ssl_cert_file={files.certificate} ssl_key_file={files.key}".split()
        return super()._options(port) + [part for each in settings for part in ("-c", each)]


async def test_postgres_itself_sees_tls(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that Debian installs is built with TLS; that of the wheel is not."""
    programs = find_system_postgres()
    if choose_account(programs / "initdb").mode == "setuid":
        pytest.skip("Postgres runs as another account here, which cannot read our key")
    monkeypatch.setenv("HOLDFAST_POSTGRES_BIN", str(programs))
    server = TlsPostgres(tmp_path, certificates)
    plain = await to_thread.run_sync(server.start)
    try:
        for mode in ("require", "verify-full", "disable"):
            parameters = f"sslmode={mode}&sslrootcert={certificates.authority}"
            url = address(plain, f"localhost:{urlsplit(plain).port}", parameters)
            await to_thread.run_sync(revisions.upgrade_to_revision, url)
            async with (
                Database(url, application_name="t") as database,
                database.transaction() as tx,
            ):
                uses_tls = await tx.fetchval(
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                )
            assert uses_tls == (mode != "disable")
    finally:
        await to_thread.run_sync(server.stop)


@contextmanager
def run_silent_host() -> Generator[socket.socket]:
    """Take connections, and answer nothing: as a host does that has lost its network."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


def count_connections(listener: socket.socket) -> int:
    """Return how many have connected since the last time."""
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


async def test_the_next_host_is_tried_and_the_one_that_answered_is_tried_first(
    database_url: str,
) -> None:
    """The first host is away and swallows all packets: the worst that a failover can be."""
    port = urlsplit(database_url).port
    with run_silent_host() as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{port}"
        async with Database(
            address(database_url, hosts, "connect_timeout=1"), application_name="tests"
        ) as database:
            async with database.transaction() as tx:
                assert await tx.fetchval("SELECT 1") == 1
            attempts = [count_connections(silent)]
            async with database.transaction() as tx, database.transaction() as other:
                assert await tx.fetchval("SELECT 1") == await other.fetchval("SELECT 1")
            attempts.append(count_connections(silent))

    assert attempts == [1, 0]


async def test_of_several_hosts_the_one_that_can_be_written_to_is_used(
    database_url: str, tmp_path: Path
) -> None:
    """A primary and its standbys are one URL, in any order."""
    place = urlsplit(database_url)
    (tmp_path / "password").write_text(str(place.password))
    standby = Postgres(tmp_path, database=place.path[1:], durable=False)
    standby_url = await to_thread.run_sync(standby.start)
    try:
        connection: asyncpg.Connection = await asyncpg.connect(standby_url)
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        hosts = f"127.0.0.1:{urlsplit(standby_url).port},127.0.0.1:{place.port}"
        url = address(database_url, hosts, "")
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
        port = await read_value(url, "SHOW port")
        alone = address(database_url, hosts.partition(",")[0], "target_session_attrs=read-write")
        with pytest.raises(CannotConnect, match="No server that the URL names can be written to"):
            await to_thread.run_sync(revisions.upgrade_to_revision, alone)
    finally:
        await to_thread.run_sync(standby.stop)

    assert port == str(place.port)


async def test_a_password_may_have_any_character(postgres_url: str, database_url: str) -> None:
    """Generated passwords have them, and a service prints them percent-encoded."""
    password = "p@ss/w#rd?%41:+ é&="
    login = f"odd_{uuid4().hex}"
    admin: asyncpg.Connection = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{password}'")
    try:
        place = urlsplit(database_url)
        host, encoded = f"127.0.0.1:{place.port}{place.path}", quote(password, safe="")
        for url in (
            f"postgres://{login}:{encoded}@{host}",
            f"postgresql://{host}?user={login}&password={encoded}",
        ):
            async with (
                Database(url, application_name="t") as database,
                database.transaction() as tx,
            ):
                assert await tx.fetchval("SELECT current_user") == login
    finally:
        await admin.execute(f"DROP ROLE {login}")
        await admin.close()


class SocketPostgres(Postgres):
    """A Postgres with a Unix socket."""

    def __init__(self, folder: Path, socket_folder: str) -> None:
        super().__init__(folder, durable=False)
        Path(socket_folder).chmod(0o777)  # the server may run as another account
        self._socket_folder = socket_folder

    def _options(self, port: int) -> list[str]:
        return [*super()._options(port), "-c", f"unix_socket_directories={self._socket_folder}"]


async def test_a_unix_socket_is_a_host(tmp_path: Path) -> None:
    """As on one machine, and as the proxies of managed services offer it."""
    with TemporaryDirectory(prefix="hf") as folder:  # a path of a socket has to be short
        server = SocketPostgres(tmp_path, folder)
        place = urlsplit(await to_thread.run_sync(server.start))
        login = f"{place.username}:{place.password}"
        try:
            for url in (
                f"postgresql://{login}@/holdfast?host={folder}&port={place.port}",
                f"postgresql://{login}@{quote(folder, safe='')}:{place.port}/holdfast",
            ):
                await to_thread.run_sync(revisions.upgrade_to_revision, url)
                assert await read_value(url, "SELECT inet_server_addr()") is None
        finally:
            await to_thread.run_sync(server.stop)


@pytest.fixture
async def redis_front(valkey_url: str, certificates: Certificates) -> AsyncGenerator[TlsFront]:
    """TLS in front of Valkey."""
    port = urlsplit(valkey_url).port
    assert port is not None
    async with TlsFront(port, certificates, is_postgres=False).listen() as front:
        yield front


@pytest.mark.parametrize(
    ("parameters", "is_reachable"),
    [
        ("ssl_cert_reqs=none", True),
        ("ssl_cert_reqs=CERT_NONE&family=0", True),
        ("ssl_ca_certs={ca}", True),
        ("ssl_ca_certs={ca}&ssl_cert_reqs=required&ssl_check_hostname=true", True),
        ("", False),
    ],
)
async def test_redis_is_reached_by_tls_as_the_url_says(
    valkey_url: str,
    redis_front: TlsFront,
    certificates: Certificates,
    parameters: str,
    *,
    is_reachable: bool,
) -> None:
    """Our clients and arq read the same URL in the same way."""
    parameters = parameters.format(ca=certificates.authority)
    password = urlsplit(valkey_url).password
    url = f"rediss://default:{password}@localhost:{redis_front.port}/0?{parameters}"

    async with wakeups.open_wakeup_sender(url) as sender:
        assert (await sender.find_failure() is None) == is_reachable
    settings = wakeups.arq_redis_settings(url, supervised=True)
    if is_reachable:
        await (await create_pool(settings)).aclose()
    else:
        with pytest.raises((OSError, RedisError)):
            await create_pool(settings)


async def test_the_name_in_the_certificate_of_redis_is_compared(
    valkey_url: str, redis_front: TlsFront, certificates: Certificates
) -> None:
    """Anybody can have a valid certificate for a name of their own."""
    login = f"default:{urlsplit(valkey_url).password}"
    url = f"rediss://{login}@127.0.0.1:{redis_front.port}?ssl_ca_certs={certificates.authority}"

    reached: list[bool] = []
    for each in (url, f"{url}&ssl_check_hostname=false"):
        async with wakeups.open_wakeup_sender(each) as sender:
            reached.append(await sender.find_failure() is None)

    assert reached == [False, True]


async def test_every_process_runs_with_such_urls(
    database_url: str,
    valkey_url: str,
    postgres_front: TlsFront,
    redis_front: TlsFront,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Migrate, service, worker, its messages and doctor: the same two URLs, by TLS."""
    parameters = "sslmode=require&channel_binding=prefer&connect_timeout=10"
    postgres = address(database_url, f"localhost:{postgres_front.port}", parameters)
    password = urlsplit(valkey_url).password
    redis = f"rediss://default:{password}@localhost:{redis_front.port}?ssl_cert_reqs=none"
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", postgres)
    monkeypatch.setenv("HOLDFAST_REDIS_URL", redis)
    stack = await to_thread.run_sync(Stack(tmp_path, report=print, durable=False).__enter__)
    try:
        caller = McpCaller(Connection(stack.url, load_users(stack.folder / "hub")[0].token))
        view = await caller.wait_until_finished(await caller.launch("true"))
        for name, value in stack.environment.items():
            if name.startswith("HOLDFAST_"):
                monkeypatch.setenv(name, value)
        code = await to_thread.run_sync(main, ["doctor"])
    finally:
        await to_thread.run_sync(stack.__exit__, None, None, None)

    assert view["state"] == "succeeded"
    assert code == 0, capsys.readouterr().out
