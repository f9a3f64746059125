"""A URL of Redis means the same to our clients and to arq, or is refused in a sentence."""

import re
from typing import Final

import pytest

from schema.common.urls.redis import EXAMPLE, parse_redis_url
from schema.messaging.wakeups import arq_redis_settings

SECRET: Final = "hunter2"

REFUSED: Final = [
    (f"http://:{SECRET}@h", f"write the whole URL, such as {EXAMPLE}"),
    (f"h:6380,password={SECRET},ssl=True", f"write the whole URL, such as {EXAMPLE}"),
    (f"redis://:{SECRET}/x@h", "percent-encoded"),
    (f"redis://:{SECRET}@a,b/0", "Redis is one server; write one host"),
    (f"redis://:{SECRET}@h/first", "the database of Redis is a number, such as in redis://host"),
    (f"redis://:{SECRET}@h/0?ssl_cert_reqs=none", "ssl_cert_reqs needs TLS: write rediss://"),
    (f"rediss://:{SECRET}@h/0?tls=yes", "the parameter tls is not supported; remove it"),
    (
        f"rediss://:{SECRET}@h/0?ssl_cert_reqs=maybe",
        "ssl_cert_reqs must be one of none, optional, required",
    ),
    (f"rediss://:{SECRET}@h?ssl_ca_certs=/no/ca", "the file of ssl_ca_certs cannot be read: /no"),
    (f"rediss://:{SECRET}@h?ssl_check_hostname=1", "ssl_check_hostname must be true or false"),
    (
        f"rediss://:{SECRET}@h?ssl_cert_reqs=none&ssl_check_hostname=true",
        "ssl_check_hostname=true needs ssl_cert_reqs=required",
    ),
]

TAKEN: Final = [
    ("redis://h", "h", 6379, 0, None),
    ("redis://default:p%40ss@h:6380/2?family=0", "h", 6380, 2, "p@ss"),
    ("rediss://:p%2Fw@h:6380?db=3&socket_timeout=5", "h", 6380, 3, "p/w"),
    ("valkeys://u:p@h:1", "h", 1, 0, "p"),
    ("redis://[::1]:6379/1", "::1", 6379, 1, None),
]


@pytest.mark.parametrize(("url", "sentence"), REFUSED)
def test_a_wrong_url_is_a_sentence_without_the_password(url: str, sentence: str) -> None:
    """It says what to write, and goes into a log."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        parse_redis_url(url)

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(("url", "host", "port", "database", "password"), TAKEN)
def test_our_clients_and_arq_read_a_url_alike(
    url: str, host: str, port: int, database: int, password: str | None
) -> None:
    """Arq by itself decodes no password and reads no parameter."""
    ours = parse_redis_url(url).connection_arguments()
    theirs = arq_redis_settings(url, supervised=True)

    assert (ours["host"], ours["port"], ours["db"]) == (host, port, database)
    assert (theirs.host, theirs.port, theirs.database) == (host, port, database)
    assert (ours["password"], theirs.password) == (password, password)
    assert theirs.ssl == url.startswith(("rediss", "valkeys"))
    assert theirs.ssl_check_hostname == theirs.ssl


def test_a_socket_is_named_by_its_path() -> None:
    """On one machine Redis needs no port."""
    url = f"unix://:{SECRET}@/run/valkey.sock?db=2"

    ours = parse_redis_url(url).connection_arguments()
    theirs = arq_redis_settings(url, supervised=True)

    assert (ours["path"], ours["db"]) == ("/run/valkey.sock", 2)
    assert (theirs.unix_socket_path, theirs.database) == ("/run/valkey.sock", 2)
