"""The operating-system account that a child runs under.

Postgres refuses root, and initdb refuses an account without a line in /etc/passwd. Root therefore
takes an unprivileged account inside a user namespace, where all files stay root's own. Where
namespaces are refused (by a container's seccomp profile) it changes to that account with setuid.
"""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from service.local.errors import CannotStart
from service.local.processes import exec_wrapper


@dataclass(frozen=True, slots=True)
class OsAccount:
    """An account, and the way to take it on."""

    mode: Literal["plain", "userns", "setuid"] = "plain"
    uid: int = 0
    gid: int = 0

    def wrap_command(self, *argv: str | Path, death_signal: int = 0) -> list[str]:
        """Return the command that runs `argv` under this account."""
        account = (self.mode, str(self.uid), str(self.gid), str(int(death_signal)))
        program = map(str, argv)
        return [sys.executable, "-I", "-S", exec_wrapper.__file__, *account, "--", *program]

    def can_run(self, *argv: str | Path) -> bool:
        """Say whether this account can be taken on here and `argv` succeeds under it."""
        try:
            run = subprocess.run(
                self.wrap_command(*argv), capture_output=True, cwd="/", check=False
            )
        except PermissionError:
            return False
        return run.returncode == 0


CURRENT_ACCOUNT: Final = OsAccount()


def choose_account(initdb: Path, *, allow_user_namespace: bool = True) -> OsAccount:
    """Return an account that Postgres accepts, in a user namespace if allowed and possible.

    An account of mode `setuid` may not be able to reach `initdb`; the caller then copies it.

    Raises:
        CannotStart: there is no such account on this machine.
    """
    is_root = os.geteuid() == 0
    if not is_root and _has_passwd_entry(os.geteuid()):
        return CURRENT_ACCOUNT
    account = _find_unprivileged_account()
    in_namespace = OsAccount("userns", account.pw_uid, account.pw_gid)
    if (
        allow_user_namespace
        and sys.platform == "linux"
        and in_namespace.can_run(initdb, "--version")
    ):
        return in_namespace
    if is_root:
        return OsAccount("setuid", account.pw_uid, account.pw_gid)
    raise CannotStart(
        f"Postgres cannot run here: user id {os.geteuid()} has no line in /etc/passwd and this "
        f"machine refuses user namespaces. Add the account, or set HOLDFAST_DATABASE_URL."
    )


def _has_passwd_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _find_unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart(
        "Postgres refuses to run as root, and there is neither a postgres nor a nobody account "
        "on this machine. Add one, or set HOLDFAST_DATABASE_URL."
    )
