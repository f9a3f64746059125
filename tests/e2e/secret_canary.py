"""A secret string, and a search for it in every store and in every form it could take."""

import base64
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg
from redis.asyncio import Redis

_TABLES: Final = """
SELECT format('%I.%I', nspname, relname) AS name
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE relkind IN ('r', 'p', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema')
"""
_CHUNK_BYTES: Final = 1 << 24

UNTYPED_REDIS: Final[Any] = Redis
"""Redis 5 types no answer to a command."""


class Canary:
    """A mark that every secret of a test begins with, so that a part of one is found as well."""

    def __init__(self) -> None:
        # With two letters that a URL writes otherwise. Nothing that a log would mask by its looks.
        self.mark = f"canary+/{secrets.token_hex(8)}"
        self._forms = dict(_encoded_forms(self.mark.encode()))

    def make_secret(self, label: str) -> str:
        """Make a secret."""
        return f"{self.mark}.{label}.{secrets.token_hex(4)}"

    def find_forms(self, data: bytes) -> list[str]:
        """Name the forms in which it stands there."""
        return sorted({name for form, name in self._forms.items() if form in data})

    async def find_in_database(self, url: str) -> list[str]:
        """Look through every row of every table, as a role that row-level security does not limit.

        A column of bytes is written as hexadecimal digits there, which is one of the forms.
        """
        places: list[str] = []
        connection: asyncpg.Connection = await asyncpg.connect(url)
        try:
            # What the servers' files would show only later.
            await connection.execute("CHECKPOINT")
            for table in [row["name"] for row in await connection.fetch(_TABLES)]:
                rows = await connection.fetch(f"SELECT it::text AS row FROM {table} AS it")  # noqa: S608
                for row in rows:
                    places += [f"{table}: {form}" for form in self.find_forms(row["row"].encode())]
            queries = await connection.fetch("SELECT query FROM pg_stat_activity")
            for row in queries:
                places += [
                    f"query: {form}" for form in self.find_forms((row["query"] or "").encode())
                ]
        finally:
            await connection.close()
        return places

    async def find_in_valkey(self, url: str) -> list[str]:
        """Look through every key, whatever it holds."""
        places: list[str] = []
        async with UNTYPED_REDIS.from_url(url) as redis:
            async for key in redis.scan_iter():
                parts = [key, await _read_value(redis, key)]
                for part in parts:
                    places += [f"{key!r}: {form}" for form in self.find_forms(part)]
            # And what no command shows: where a save was asked for, it is in a file.
            await redis.save()
        return places

    def find_in_files(self, folder: Path, *, excluding: Path) -> list[str]:
        """Look through every file below a folder: logs, and the servers' own."""
        return [
            f"{path.relative_to(folder)}: {form}"
            for path in sorted(folder.rglob("*"))
            if path != excluding and path.is_file() and not path.is_symlink()
            for form in self._find_forms_in_file(path)
        ]

    def _find_forms_in_file(self, path: Path) -> list[str]:
        overlap = max(map(len, self._forms))
        forms: set[str] = set()
        tail = b""
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    forms |= set(self.find_forms(tail + chunk))
                    tail = chunk[-overlap:]
        except FileNotFoundError:
            pass  # a server has removed it meanwhile
        return sorted(forms)


def _encoded_forms(plain: bytes) -> Iterator[tuple[bytes, str]]:
    yield plain, "plain"
    yield plain[::-1], "reversed"
    yield quote(plain, safe="").encode(), "URL"
    yield plain.replace(b"/", rb"\/"), "JSON"
    yield plain.hex().encode(), "hex"
    yield plain.hex().upper().encode(), "hex"
    yield plain.decode().encode("utf-16-le"), "UTF-16"
    # Whatever stands before it moves the letters of base 64 by one of three steps.
    for before, cut in ((0, 0), (1, 2), (2, 3)):
        data = bytes(before) + plain
        end = None if len(data) % 3 == 0 else -1
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(data).rstrip(b"=")[cut:end], "base64"


async def _read_value(redis: Any, key: bytes) -> bytes:
    kind: str = (await redis.type(key)).decode()
    value: Any
    match kind:
        case "string":
            value = await redis.get(key)
        case "hash":
            value = await redis.execute_command("HGETALL", key)
        case "list":
            value = await redis.execute_command("LRANGE", key, 0, -1)
        case "set":
            value = await redis.execute_command("SMEMBERS", key)
        case "zset":
            value = await redis.execute_command("ZRANGE", key, 0, -1, "WITHSCORES")
        case "stream":
            value = await redis.execute_command("XRANGE", key, "-", "+")
        case _:
            raise AssertionError(f"{key!r} is a {kind}; say how it is read")
    return value if isinstance(value, bytes) else b" ".join(_leaves(value))


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes | str | int | float | None):
        yield value if isinstance(value, bytes) else str(value).encode()
    else:
        # What HGETALL gives is the one that is a dictionary.
        parts: Iterable[Any] = getattr(value, "items", value.__iter__)()
        for each in parts:
            yield from _leaves(each)
