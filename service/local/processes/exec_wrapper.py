"""A wrapper program that takes on an account, ties its life to the parent, and becomes a program.

It runs as a program of its own with one thread, so that it may do what is unsafe between fork and
exec, and imports the standard library only:

    python -I -S exec_wrapper.py MODE UID GID DEATH_SIGNAL -- PROGRAM ARGUMENTS...

`plain` keeps the account. `userns` keeps it too, but is UID inside a new user namespace, so files
stay ours and no account is needed. `setuid` becomes UID. On Linux the kernel then sends
DEATH_SIGNAL (0: none) when the parent dies; on other systems the next start stops the orphan.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

USERNS_REFUSED_EXIT_CODE: Final = 77
_PARENT_GONE_EXIT_CODE: Final = 78
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Take on the account, arrange the death signal, and become the program."""
    parent = os.getppid()
    mode, *numbers = sys.argv[1:5]
    uid, gid, death_signal = map(int, numbers)
    program = sys.argv[6:]
    # Loaded first: after setuid the folder of the library may not be readable.
    libc = ctypes.CDLL(None, use_errno=True)
    if mode == "userns":
        _enter_user_namespace(libc, uid, gid)
    elif mode == "setuid":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account, which clears the death signal.
    if sys.platform == "linux" and death_signal:
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(_PARENT_GONE_EXIT_CODE)
    os.umask(0o077)
    os.execv(program[0], program)  # noqa: S606 - becoming the program is the point


def _enter_user_namespace(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        sys.exit(USERNS_REFUSED_EXIT_CODE)
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {outside_gid} 1", encoding="ascii")
    except OSError:
        sys.exit(USERNS_REFUSED_EXIT_CODE)


if __name__ == "__main__":
    main()
