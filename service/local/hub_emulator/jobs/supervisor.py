"""How does a job's process end with all its children, whatever becomes of the Hub?

Run as a program of its own, holding the other end of a pipe on its standard input:

    python -I -S keeper.py BYTES -- PROGRAM ARGUMENTS...

The program gets a folder to call its home, a session, and at most BYTES to write to. When it ends,
or when the pipe is closed (by a cancel, a timeout, or the kernel because the Hub is dead), it is
killed with its session, and on Linux with whoever left that session too. The folder goes last.
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
_NOT_FOUND_EXIT_CODE, _NOT_EXECUTABLE_EXIT_CODE, _SIGNAL_EXIT_CODE_BASE = 127, 126, 128
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Start the program, and see to it that nothing of it stays."""
    memory, program = int(sys.argv[1]), sys.argv[3:]
    # Children whose parent has died become ours, so none is out of reach.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with TemporaryDirectory(prefix="holdfast-job-", ignore_cleanup_errors=True) as home:
        keeper, child = os.getpid(), os.fork()
        if child == 0:
            _exec_program(program, home, memory, keeper)
        threading.Thread(target=_kill_on_pipe_close, args=(child,), daemon=True).start()
        ended, status = os.wait()
        while ended != child:
            ended, status = os.wait()
        _kill_session_and_orphans(session=child)
    code = os.waitstatus_to_exitcode(status)
    # Not sys.exit: the thread may still be reading.
    os._exit(code if code >= 0 else _SIGNAL_EXIT_CODE_BASE - code)


def _exec_program(
    program: list[str], home: str, memory_bytes: int, supervisor_pid: int
) -> NoReturn:
    """Turn this process into the program."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        os._exit(_SIGNAL_EXIT_CODE_BASE + signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(home)
    # Python ignores it, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _limit_memory(memory_bytes)
    given = {"HOME": home, "PATH": f"{_link_interpreters(home)}:{_DEFAULT_PATH}"} | os.environ
    try:
        os.execvpe(program[0], program, given)  # noqa: S606  # becoming the program is the point
    except OSError as error:
        os.write(2, f"exec: {program[0]}: {error.strerror}\n".encode(errors="replace"))
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        os._exit(_NOT_FOUND_EXIT_CODE if absent else _NOT_EXECUTABLE_EXIT_CODE)


def _link_interpreters(home: str) -> Path:
    """Return a folder with a `python` in it, since most images have one, and uv if it is here."""
    folder = Path(home) / "bin"
    folder.mkdir()
    for name in ("python", "python3"):
        # Not that of a virtual environment, whose packages are ours.
        (folder / name).symlink_to(getattr(sys, "_base_executable", sys.executable))
    # Beside the interpreter that runs this, in its virtual environment; a job sees only this link.
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        (folder / "uv").symlink_to(uv)
    return folder


def _limit_memory(memory_bytes: int) -> None:
    # Not RLIMIT_AS: some programs reserve far more than they ever write to.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    with suppress(ValueError):  # macOS has limits of its own
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def _kill_on_pipe_close(child: int) -> None:
    while os.read(0, 1024):
        pass
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _kill_session_and_orphans(session: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    # Each that dies leaves us its children, so the last round finds none.
    with suppress(ChildProcessError):
        while True:
            for pid in _list_child_pids():
                os.kill(pid, signal.SIGKILL)
            os.wait()


def _list_child_pids() -> list[int]:
    keeper, children = str(os.getpid()), list[int]()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # After the name, which may hold anything: the state, then the parent.
            _, parent, *_ = entry.read_text(errors="replace").rpartition(")")[2].split()
            if parent == keeper:
                children.append(int(entry.parent.name))
    return children


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
