"""A program that starts Postgres as in a container: as root or a nameless user, without namespaces.

    python -m tests.support.database.unprivileged_postgres UID FOLDER

Prints the account that the server runs as, from two starts in a row.
"""

import asyncio
import ctypes
import os
import platform
import sys
from pathlib import Path

import asyncpg
import psutil

from service.local.errors import CannotStart
from service.local.processes import os_account
from service.local.servers import binaries
from service.local.servers.postgres import Postgres

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_UNSHARE = {"x86_64": 272, "aarch64": 97}


class _BpfInstruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _BpfProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_BpfInstruction)))


def deny_unshare() -> None:
    """Refuse `unshare` to this process and all its children, as Docker's seccomp profile does."""
    instructions = (_BpfInstruction * 4)(
        _BpfInstruction(0x20, 0, 0, 0),  # load the number of the call
        _BpfInstruction(0x15, 0, 1, _UNSHARE[platform.machine()]),  # is it unshare?
        _BpfInstruction(0x06, 0, 0, 0x00050001),  # then EPERM
        _BpfInstruction(0x06, 0, 0, 0x7FFF0000),  # else go on
    )
    program = _BpfProgram(len(instructions), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


async def _read_server_account(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return psutil.Process(connection.get_server_pid()).username()
    finally:
        await connection.close()


def main() -> None:
    uid, folder = int(sys.argv[1]), Path(sys.argv[2])
    deny_unshare()
    if uid:
        os.setuid(uid)
        os_account.choose_account(binaries.find_postgres_bin() / "initdb")
    server = Postgres(folder, durable=False)
    for _ in range(2):
        try:
            sys.stdout.write(f"{asyncio.run(_read_server_account(server.start()))}\n")
        finally:
            server.stop()


if __name__ == "__main__":
    try:
        main()
    except CannotStart as problem:
        sys.exit(str(problem))
