"""A URL of Postgres is understood as libpq does, or refused in a sentence without its password."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from schema.common.urls.postgres import EXAMPLE, parse_postgres_url

SECRET: Final = "hunter2"
ENCODE: Final = "write that character percent-encoded: %2F %3F %23 %40 %3A %25"

REFUSED: Final = [
    (f"mysql://u:{SECRET}@h/d", f"write the whole URL, such as {EXAMPLE}"),
    (f"host=h password={SECRET}", f"write the whole URL, such as {EXAMPLE}"),
    (f"jdbc:postgresql://h/d?password={SECRET}", f"write the whole URL, such as {EXAMPLE}"),
    (f"postgresql://u:{SECRET}/x@h/d", ENCODE),
    (f"postgresql://u:{SECRET}?x=1@h/d", ENCODE),
    (f"postgresql://u:{SECRET}#x@h/d", ENCODE),
    (f"postgresql://u:1/{SECRET}@h/d", ENCODE),
    (f"postgresql://u:1?{SECRET}=1@h/d", ENCODE),
    (f"postgresql://u:{SECRET}/d", "the port is not a number from 1 to 65535; if the name"),
    (f"postgresql://u:{SECRET}@h:0/d", "the port is not a number"),
    (f"postgresql://u:{SECRET}@h:99999/d", "the port is not a number"),
    (f"postgresql://u:{SECRET}@h/d?sslmode=no-verify", "sslmode must be one of disable, allow, "),
    (f"postgresql://u:{SECRET}@h/d?ssl=1", "ssl must be true or false; or write sslmode=require"),
    (
        f"postgresql://u:{SECRET}@h/d?search_path=x",
        "remove it, or write a setting of the server as options=-c%20NAME%3DVALUE",
    ),
    (f"postgresql://u:{SECRET}@h/d?require_auth=none", "the parameter require_auth is not"),
    (
        f"postgresql://u:{SECRET}@h/d?sslmode=verify-ca",
        "sslmode=verify-ca needs sslrootcert=FILE; or write sslmode=verify-full",
    ),
    (
        f"postgresql://u:{SECRET}@h/d?sslmode=require&sslrootcert=system",
        "sslrootcert=system needs sslmode=verify-full, or anybody's certificate will do",
    ),
    (
        f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&sslrootcert=/no/ca.crt",
        "the file of sslrootcert cannot be read: /no/ca.crt",
    ),
    (
        f"postgresql://u:{SECRET}@h/d?sslmode=disable&channel_binding=require",
        "channel_binding=require needs TLS, and sslmode=disable forbids it",
    ),
    (
        f"postgresql://u:{SECRET}@/d?host=/run/postgresql&channel_binding=require",
        "channel_binding=require needs TLS, which a socket does not have; remove it",
    ),
    (f"postgresql://u:{SECRET}@h/d?channel_binding=yes", "channel_binding must be one of disable"),
    (
        f"postgresql://u:{SECRET}@h/d?target_session_attrs=standby",
        "cannot be a standby or read-only server; write target_session_attrs=read-write",
    ),
    (f"postgresql://u:{SECRET}@h/d?connect_timeout=soon", "connect_timeout must be a number of"),
    (f"postgresql://u:{SECRET}@h/d?gssencmode=require", "gssencmode=require is not supported"),
    (f"postgresql://u:{SECRET}@h/d?schema=app", "Holdfast keeps its tables in the schema public"),
    (f"postgresql://u:{SECRET}@a,b/d?port=1,2,3", "the parameter port has another number of ports"),
    (
        f"postgresql://u:{SECRET}@h/d?sslrootcert=system&ssl_min_protocol_version=2",
        "a TLS version is written TLSv1.2 or TLSv1.3",
    ),
    (
        f"postgresql://u:{SECRET}@h/d?sslrootcert=system&sslcert={__file__}&sslkey={__file__}",
        "the certificate of sslcert and the key of sslkey do not fit, or are no PEM files",
    ),
]

TAKEN: Final = [
    "postgres://u:p%40ss@h/d",
    "postgresql://u:p@ss@h/d",
    "postgresql+asyncpg://u:p@h/d",
    "postgresql:///d",
    "postgresql://",
    "postgresql://u@/d?host=/cloudsql/project:region:instance",
    "postgresql://u:p@[::1]:5433,h2:5434/d?target_session_attrs=any",
    "postgresql://u:p@a,b/d?port=6432",
    "postgresql://u:p@h/d?sslmode=require&channel_binding=require",
    "postgresql://u:p@h/d?sslmode=verify-full",
    "postgresql://u:p@h/d?schema=public&pgbouncer=true&connection_limit=1&supa=base-pooler.x",
    "postgresql://u:p@h:6543/d?options=project%3Dabc&ssl=true&connect_timeout=0&gssencmode=prefer",
    " postgresql://u:p@h/d?sslrootcert=system&ssl_min_protocol_version=TLSv1.3\n",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without certificates of libpq's."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(("url", "sentence"), REFUSED)
def test_a_wrong_url_is_a_sentence_without_the_password(url: str, sentence: str) -> None:
    """It says what to write, and goes into a log."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        parse_postgres_url(url)

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("url", TAKEN)
def test_what_services_print_is_taken(url: str) -> None:
    """Each is in the manual, or on the page, of one of them."""
    parse_postgres_url(url)


def test_a_password_is_not_printed_with_the_server() -> None:
    """What is printed in a hurry ends in a log."""
    assert SECRET not in repr(parse_postgres_url(f"postgresql://u:{SECRET}@h/d?password={SECRET}"))


def test_the_authority_that_libpq_would_find_verifies_a_server(tmp_path: Path) -> None:
    """The certificate in the home of the account counts, as with psql."""
    authority = tmp_path / ".postgresql/root.crt"
    authority.parent.mkdir()
    authority.touch()

    parse_postgres_url("postgresql://u:p@h/d?sslmode=verify-ca")


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("postgresql://h/d", 5),
        ("postgresql://a,b/d", 5),
        ("postgresql://h/d?connect_timeout=15", 15),
        ("postgresql://a,b/d?connect_timeout=15", 30),
        ("postgresql://h/d?connect_timeout=0", 5),
    ],
)
def test_the_time_for_a_connection_is_that_of_each_host(url: str, seconds: int) -> None:
    """A server that sleeps needs seconds to wake up, and its URL says so."""
    server = parse_postgres_url(url)

    assert server.total_timeout(timedelta(seconds=5)) == timedelta(seconds=seconds)
