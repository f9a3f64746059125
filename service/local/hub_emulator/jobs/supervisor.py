"""Supervisor program of one job: it ends the job's processes in every case, also if the Hub dies.

It runs as a program of its own, with a pipe from the Hub as its standard input, and so imports the
standard library only:

    python -I -S supervisor.py BYTES FOLDER -- PROGRAM ARGUMENTS...

The program gets a session, at most BYTES of memory, and a home folder in FOLDER that has one for
its temporary files. It is killed when it ends, or when the pipe is closed: by a cancel, a timeout,
or the kernel because the Hub is dead. Its session is killed with it, and on Linux also the
processes that have left the session. Its home is removed last.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_EXECUTABLE_EXIT_CODE, _NOT_FOUND_EXIT_CODE, SIGNAL_EXIT_CODE_BASE = 126, 127, 128
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Run the program, then end all its processes and exit with its exit code."""
    memory_bytes, folder, program = int(sys.argv[1]), sys.argv[2], sys.argv[4:]
    # A process whose parent has died becomes our child, so we can reach all of them.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with TemporaryDirectory(prefix="job-", dir=folder, ignore_cleanup_errors=True) as home:
        supervisor_pid, child = os.getpid(), os.fork()
        if child == 0:
            _exec_program(program, home, memory_bytes, supervisor_pid)
        threading.Thread(target=_kill_on_pipe_close, args=(child,), daemon=True).start()
        pid, status = os.wait()
        while pid != child:
            pid, status = os.wait()
        _kill_session_and_orphans(session=child)
    code = os.waitstatus_to_exitcode(status)
    # Not sys.exit: the thread may still be reading.
    os._exit(code if code >= 0 else SIGNAL_EXIT_CODE_BASE - code)


def _exec_program(
    program: list[str], home: str, memory_bytes: int, supervisor_pid: int
) -> NoReturn:
    """Become the program, in the forked child."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        os._exit(SIGNAL_EXIT_CODE_BASE + signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(home)
    # Python ignores SIGPIPE, and the program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _limit_memory(memory_bytes)
    temporary = Path(home) / "tmp"
    temporary.mkdir()
    defaults = {
        "HOME": home,
        "PATH": f"{_link_interpreters(home)}:{_DEFAULT_PATH}",
        "TMPDIR": str(temporary),
    }
    try:
        os.execvpe(program[0], program, defaults | os.environ)  # noqa: S606  # becoming the program is the point
    except OSError as error:
        os.write(2, f"exec: {program[0]}: {error.strerror}\n".encode(errors="replace"))
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        os._exit(_NOT_FOUND_EXIT_CODE if is_missing else NOT_EXECUTABLE_EXIT_CODE)


def _link_interpreters(home: str) -> Path:
    """Return a folder that has `python`, as most images do, and `uv` if this machine has it."""
    folder = Path(home) / "bin"
    folder.mkdir()
    for name in ("python", "python3"):
        # Not the interpreter of a virtual environment: its packages are not the job's.
        (folder / name).symlink_to(getattr(sys, "_base_executable", sys.executable))
    # uv is in the folder of the interpreter that runs this; a job sees only this link to it.
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        (folder / "uv").symlink_to(uv)
    return folder


def _limit_memory(memory_bytes: int) -> None:
    # Not RLIMIT_AS: some programs reserve far more memory than they ever write to.
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if hard_limit == resource.RLIM_INFINITY else min(memory_bytes, hard_limit)
    with suppress(ValueError):  # macOS refuses some values
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _kill_on_pipe_close(child: int) -> None:
    while os.read(0, 1024):
        pass
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _kill_session_and_orphans(session: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    # We inherit the children of each process that dies, so repeat until there are none.
    with suppress(ChildProcessError):
        while True:
            for pid in _list_child_pids():
                os.kill(pid, signal.SIGKILL)
            os.wait()


def _list_child_pids() -> list[int]:
    supervisor_pid, children = str(os.getpid()), list[int]()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # After the name, which may contain anything, come the state and the parent's pid.
            _, parent, *_ = entry.read_text(errors="replace").rpartition(")")[2].split()
            if parent == supervisor_pid:
                children.append(int(entry.parent.name))
    return children


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
